// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Glibc
import HoldfastCore
import Synchronization

/// A proxy between clients and a server of this machine that can misbehave, on a thread of its own.
package final class FaultProxy: Sendable {
    private let loop: ProxyLoop

    /// Starts a proxy.
    ///
    /// - Parameters:
    ///   - target: The server's port.
    ///   - isFramed: Whether it is a ZooKeeper server, whose requests are passed on one by one and can be counted.
    /// - Throws: ``LockError`` when there are no sockets.
    package init(to target: UInt16, isFramed: Bool = true) throws {
        let loop = try ProxyLoop(to: target, isFramed: isFramed)
        self.loop = loop
        DispatchQueue(label: "holdfast.testing.proxy").async { loop.run() }
    }

    deinit { self.loop.change { $0.isOver = true } }

    /// Where clients connect.
    package var port: UInt16 { self.loop.port }

    /// Passes everything on, also what waited.
    package func pass() { self.loop.change { $0.behaviour = .pass } }

    /// Passes nothing on, either way; what comes waits.
    package func hold() { self.loop.change { $0.behaviour = .hold } }

    /// Passes requests on, and throws answers away.
    package func dropReplies() { self.loop.change { $0.behaviour = .dropReplies } }

    /// Closes all connections, and new ones at once until ``pass()``.
    package func refuse() { self.loop.change { $0.behaviour = .refuse } }

    /// Closes all connections now.
    package func cut() { self.loop.change { $0.mustCut = true } }

    /// Passes this many more requests on, and closes the connection before the last of them is answered.
    ///
    /// - Parameter requests: How many; the greeting of a session and pings are none. With 0 the next is not passed on.
    package func cut(afterRequests requests: Int) { self.loop.change { $0.requestsLeft = requests } }
}

/// The proxy's thread.
private final class ProxyLoop: Sendable {
    enum Behaviour: Sendable {
        case pass
        case hold
        case dropReplies
        case refuse
    }

    struct Orders: Sendable {
        var behaviour = Behaviour.pass
        var mustCut = false
        var requestsLeft: Int?
        var isOver = false
    }

    /// Two ends of a connection, and what is on its way.
    private struct Pair {
        let client: Int32
        let server: Int32
        var toServer: [UInt8] = []
        var toClient: [UInt8] = []
        var hasBegun = false
    }

    private let orders = Mutex(Orders())
    private let listener: Int32
    private let bell: (read: Int32, write: Int32)
    private let target: UInt16
    private let isFramed: Bool
    let port: UInt16

    init(to target: UInt16, isFramed: Bool) throws {
        self.target = target
        self.isFramed = isFramed
        (self.listener, self.port) = try LoopbackSocket.listen()
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0, ends.allSatisfy({ fcntl($0, F_SETFD, FD_CLOEXEC) == 0 }) else {
            close(self.listener)
            throw LockError(.storeUnavailable, "no pipe: error \(errno)")
        }
        self.bell = (ends[0], ends[1])
    }

    deinit {
        close(self.listener)
        close(self.bell.read)
        close(self.bell.write)
    }

    func change(_ change: (inout Orders) -> Void) {
        self.orders.withLock { change(&$0) }
        var byte: UInt8 = 0
        _ = write(self.bell.write, &byte, 1)
    }

    func run() {
        var pairs: [Pair] = []
        while true {
            let orders = self.orders.withLock { orders in
                defer { orders.mustCut = false }
                return orders
            }
            if orders.isOver || orders.mustCut || orders.behaviour == .refuse {
                for pair in pairs { Self.end(pair) }
                pairs = []
            }
            if orders.isOver { return }
            let reads = orders.behaviour != .hold
            var polls = [
                pollfd(fd: self.bell.read, events: Int16(POLLIN), revents: 0),
                pollfd(fd: self.listener, events: Int16(POLLIN), revents: 0),
            ]
            for pair in pairs where reads {
                polls.append(pollfd(fd: pair.client, events: Int16(POLLIN), revents: 0))
                polls.append(pollfd(fd: pair.server, events: Int16(POLLIN), revents: 0))
            }
            guard poll(&polls, nfds_t(polls.count), -1) > 0 else { continue }
            if polls[0].revents != 0 {
                var bytes = [UInt8](repeating: 0, count: 64)
                _ = read(self.bell.read, &bytes, bytes.count)
                continue
            }
            if polls[1].revents != 0 { self.accept(&pairs, orders.behaviour) }
            guard reads else { continue }
            let known = (polls.count - 2) / 2
            var ended: Set<Int> = []
            for index in 0..<known {
                let fromClient = polls[2 + 2 * index].revents != 0
                let fromServer = polls[3 + 2 * index].revents != 0
                if !self.pump(&pairs[index], fromClient, fromServer, orders.behaviour) { ended.insert(index) }
            }
            for index in ended.sorted(by: >) { Self.end(pairs.remove(at: index)) }
        }
    }

    private func accept(_ pairs: inout [Pair], _ behaviour: Behaviour) {
        let client = Glibc.accept(self.listener, nil, nil)
        guard client >= 0 else { return }
        guard behaviour != .refuse, let server = try? LoopbackSocket.connection(to: self.target) else {
            close(client)
            return
        }
        pairs.append(Pair(client: client, server: server))
    }

    /// Passes on what came.
    ///
    /// - Returns: Whether the connection goes on.
    private func pump(_ pair: inout Pair, _ fromClient: Bool, _ fromServer: Bool, _ behaviour: Behaviour) -> Bool {
        if fromClient {
            guard let bytes = Self.receive(pair.client) else { return false }
            if self.isFramed {
                pair.toServer += bytes
                guard self.passRequests(&pair) else { return false }
            } else if !Self.send(bytes, pair.server) {
                return false
            }
        }
        if fromServer {
            guard let bytes = Self.receive(pair.server) else { return false }
            if behaviour != .dropReplies, !Self.send(bytes, pair.client) { return false }
        }
        return true
    }

    /// Passes whole frames on, counted where they are.
    private func passRequests(_ pair: inout Pair) -> Bool {
        while pair.toServer.count >= 4 {
            let length = pair.toServer[..<4].reduce(0) { $0 << 8 | Int($1) }
            guard length <= 1 << 20 else { return false }
            guard pair.toServer.count >= 4 + length else { return true }
            let frame = Array(pair.toServer[..<(4 + length)])
            pair.toServer.removeFirst(4 + length)
            // The transaction id of a ping is -2; the first frame greets.
            let isPing = length >= 4 && frame[4..<8] == [0xFF, 0xFF, 0xFF, 0xFE]
            let isRequest = pair.hasBegun && !isPing
            pair.hasBegun = true
            let mayPass = self.orders.withLock { orders -> Bool in
                guard isRequest, let left = orders.requestsLeft else { return true }
                guard left > 0 else {
                    orders.requestsLeft = nil
                    return false
                }
                orders.requestsLeft = left - 1
                return true
            }
            guard mayPass, Self.send(frame, pair.server) else { return false }
            if self.orders.withLock({ $0.requestsLeft == 0 }) {
                // It is on its way; nobody hears of what becomes of it.
                self.orders.withLock { $0.requestsLeft = nil }
                var wait = pollfd(fd: pair.server, events: Int16(POLLIN), revents: 0)
                _ = poll(&wait, 1, 1000)
                return false
            }
        }
        return true
    }

    private static func receive(_ descriptor: Int32) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: 65_536)
        let count = recv(descriptor, &bytes, bytes.count, 0)
        return count > 0 ? Array(bytes[..<count]) : nil
    }

    private static func send(_ bytes: [UInt8], _ descriptor: Int32) -> Bool {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { buffer in
                Glibc.send(descriptor, buffer.baseAddress.map { $0 + sent }, buffer.count - sent, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return false }
            sent += count
        }
        return true
    }

    private static func end(_ pair: Pair) {
        // A program that was started meanwhile may have copies of them.
        shutdown(pair.client, Int32(SHUT_RDWR))
        shutdown(pair.server, Int32(SHUT_RDWR))
        close(pair.client)
        close(pair.server)
    }
}
