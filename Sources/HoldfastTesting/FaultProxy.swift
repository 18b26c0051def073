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
    package func pass() {
        self.loop.change { orders in
            orders.behaviour = .pass
            orders.pace = nil
            orders.news.append(.free)
        }
    }

    /// Passes nothing on, either way; what comes waits.
    package func hold() { self.loop.change { $0.behaviour = .hold } }

    /// Passes nothing on of the connections that there are, until ``pass()``, whatever becomes of their clients; new
    /// ones work.
    package func holdPresent() { self.loop.change { $0.news.append(.hold) } }

    /// Lets what comes through late, in its order; for servers without frames.
    ///
    /// - Parameters:
    ///   - delay: How late each piece is, one way.
    ///   - loss: The chance that a piece is lost; it is then sent again after 200 ms, and each time after twice as long,
    ///     as TCP does.
    package func slow(by delay: ClosedRange<Duration>, losing loss: Double = 0) {
        self.loop.change { $0.pace = ProxyPace(delay: delay, loss: loss) }
    }

    /// Tells the server another address than the one that its client sends, for servers without frames that connect back.
    ///
    /// - Parameters:
    ///   - address: What is looked for in each piece that comes from the client.
    ///   - other: What is put there, as long.
    package func replace(_ address: String, by other: String) {
        self.loop.change { $0.addresses = (Array(address.utf8), Array(other.utf8)) }
    }

    /// Passes requests on, and throws answers away.
    package func dropReplies() { self.loop.change { $0.behaviour = .dropReplies } }

    /// Closes all connections, and new ones at once until ``pass()``.
    package func refuse() { self.loop.change { $0.behaviour = .refuse } }

    /// Closes all connections now.
    package func cut() { self.loop.change { $0.news.append(.cut) } }

    /// Passes this many more requests on, and closes the connection before the last of them is answered.
    ///
    /// - Parameter requests: How many; the greeting of a session and pings are none. With 0 the next is not passed on.
    package func cut(afterRequests requests: Int) { self.loop.change { $0.requestsLeft = requests } }
}

/// How slow a way is.
struct ProxyPace: Sendable {
    let delay: ClosedRange<Duration>
    let loss: Double

    /// When a piece arrives that is sent now, behind another.
    func next(after other: ContinuousClock.Instant?) -> ContinuousClock.Instant {
        let span = (self.delay.upperBound - self.delay.lowerBound).nanoseconds
        var late = self.delay.lowerBound + .nanoseconds(Int64.random(in: 0...span))
        var again = Duration.milliseconds(200)
        while Double.random(in: 0..<1) < self.loss {
            late += again
            again *= 2
        }
        let due = ContinuousClock.now.advanced(by: late)
        return other.map { max($0, due) } ?? due
    }
}

/// The proxy's thread.
private final class ProxyLoop: Sendable {
    enum Behaviour: Sendable {
        case pass
        case hold
        case dropReplies
        case refuse
    }

    /// What is done once.
    enum News: Sendable {
        case cut
        case hold
        case free
    }

    struct Orders: Sendable {
        var behaviour = Behaviour.pass
        var pace: ProxyPace?
        var news: [News] = []
        var requestsLeft: Int?
        var addresses: (old: [UInt8], new: [UInt8])?
        var isOver = false
    }

    /// Two ends of a connection, and what is on its way.
    private struct Pair {
        let client: Int32
        let server: Int32
        var toServer: [UInt8] = []
        var toClient: [UInt8] = []
        var hasBegun = false
        var isHeld = false
        /// One of the ends is closed; what is late still arrives.
        var isOver = false
        var late: [Late] = []

        /// When the next late piece is due.
        var due: ContinuousClock.Instant? { self.late.map(\.due).min() }

        /// Keeps a piece for later, if the way is slow or others before it are late.
        mutating func postpone(_ bytes: [UInt8], isRequest: Bool, _ pace: ProxyPace?) -> Bool {
            let last = self.late.last { $0.isRequest == isRequest }?.due
            guard let due = pace?.next(after: last) ?? last else { return false }
            self.late.append(Late(due: due, isRequest: isRequest, bytes: bytes))
            return true
        }
    }

    /// A piece that arrives later.
    private struct Late {
        let due: ContinuousClock.Instant
        let isRequest: Bool
        let bytes: [UInt8]
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
                defer { orders.news = [] }
                return orders
            }
            for news in orders.news where news != .cut {
                for index in pairs.indices { pairs[index].isHeld = news == .hold }
            }
            if orders.isOver || orders.news.contains(.cut) || orders.behaviour == .refuse {
                for pair in pairs { Self.end(pair) }
                pairs = []
            }
            if orders.isOver { return }
            let reads = orders.behaviour != .hold
            var polls = [
                pollfd(fd: self.bell.read, events: Int16(POLLIN), revents: 0),
                pollfd(fd: self.listener, events: Int16(POLLIN), revents: 0),
            ]
            let watched = pairs.indices.filter { reads && !pairs[$0].isHeld && !pairs[$0].isOver }
            for index in watched {
                polls.append(pollfd(fd: pairs[index].client, events: Int16(POLLIN), revents: 0))
                polls.append(pollfd(fd: pairs[index].server, events: Int16(POLLIN), revents: 0))
            }
            let due = reads ? pairs.filter { !$0.isHeld }.compactMap(\.due).min() : nil
            guard poll(&polls, nfds_t(polls.count), Self.patience(until: due)) >= 0 else { continue }
            if polls[0].revents != 0 {
                var bytes = [UInt8](repeating: 0, count: 64)
                _ = read(self.bell.read, &bytes, bytes.count)
                continue
            }
            if polls[1].revents != 0 { self.accept(&pairs, orders.behaviour) }
            guard reads else { continue }
            var ended: Set<Int> = []
            for (place, index) in watched.enumerated() {
                let fromClient = polls[2 + 2 * place].revents != 0
                let fromServer = polls[3 + 2 * place].revents != 0
                if !self.pump(&pairs[index], fromClient, fromServer, orders) { pairs[index].isOver = true }
            }
            for index in pairs.indices where !pairs[index].isHeld {
                let isWhole = Self.deliver(&pairs[index])
                if !isWhole || (pairs[index].isOver && pairs[index].late.isEmpty) { ended.insert(index) }
            }
            for index in ended.sorted(by: >) { Self.end(pairs.remove(at: index)) }
        }
    }

    /// How long to wait for something to happen.
    private static func patience(until due: ContinuousClock.Instant?) -> Int32 {
        guard let due else { return -1 }
        return Int32(clamping: max(.zero, ContinuousClock.now.duration(to: due)).millisecondsRoundedUp)
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
    private func pump(_ pair: inout Pair, _ fromClient: Bool, _ fromServer: Bool, _ orders: Orders) -> Bool {
        if fromClient {
            guard var bytes = Self.receive(pair.client) else { return false }
            if let (old, new) = orders.addresses { bytes.replace(old, with: new, maxReplacements: 1) }
            if self.isFramed {
                pair.toServer += bytes
                guard self.passRequests(&pair) else { return false }
            } else if !pair.postpone(bytes, isRequest: true, orders.pace), !Self.send(bytes, pair.server) {
                return false
            }
        }
        if fromServer {
            guard let bytes = Self.receive(pair.server) else { return false }
            if orders.behaviour == .dropReplies { return true }
            if !pair.postpone(bytes, isRequest: false, orders.pace), !Self.send(bytes, pair.client) { return false }
        }
        return true
    }

    /// Passes on what is due.
    private static func deliver(_ pair: inout Pair) -> Bool {
        let now = ContinuousClock.now
        let due = pair.late.filter { $0.due <= now }
        guard !due.isEmpty else { return true }
        pair.late.removeAll { $0.due <= now }
        return due.allSatisfy { Self.send($0.bytes, $0.isRequest ? pair.server : pair.client) }
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
