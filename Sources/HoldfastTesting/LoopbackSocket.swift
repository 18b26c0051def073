// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCore

/// A blocking connection to a server of this machine, for talking to it behind a store's back.
struct LoopbackSocket {
    private let descriptor: Int32
    private var buffer: [UInt8] = []

    init(port: UInt16, patience: Duration) throws {
        self.descriptor = try Self.connection(to: port)
        var limit = timeval(tv_sec: Int(patience.components.seconds), tv_usec: 0)
        setsockopt(self.descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    /// A connected socket.
    static func connection(to port: UInt16) throws -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw LockError(.storeUnavailable, "no socket: error \(errno)") }
        guard Self.withLoopback(port: port, { connect(descriptor, $0, $1) }) == 0 else {
            Glibc.close(descriptor)
            throw LockError(.storeUnavailable, "nobody listens on port \(port)")
        }
        return descriptor
    }

    /// A socket that listens on a free port.
    static func listen() throws -> (descriptor: Int32, port: UInt16) {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0, Self.withLoopback(port: 0, { bind(descriptor, $0, $1) }) == 0,
            Glibc.listen(descriptor, 64) == 0, let port = Self.port(of: descriptor)
        else {
            Glibc.close(descriptor)
            throw LockError(.storeUnavailable, "no socket to listen on: error \(errno)")
        }
        return (descriptor, port)
    }

    private static func port(of descriptor: Int32) -> UInt16? {
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        return result == 0 ? UInt16(bigEndian: address.sin_port) : nil
    }

    /// A port that nobody listens on.
    static func freePort() throws -> UInt16 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        defer { Glibc.close(descriptor) }
        guard Self.withLoopback(port: 0, { bind(descriptor, $0, $1) }) == 0 else {
            throw LockError(.storeUnavailable, "no free port: error \(errno)")
        }
        guard let port = Self.port(of: descriptor) else {
            throw LockError(.storeUnavailable, "no free port: error \(errno)")
        }
        return port
    }

    func close() { Glibc.close(self.descriptor) }

    func write(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { buffer in
                send(self.descriptor, buffer.baseAddress.map { $0 + sent }, buffer.count - sent, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw LockError(.storeUnavailable, "the server closed the connection") }
            sent += count
        }
    }

    mutating func line() throws -> String {
        while true {
            if let end = self.buffer.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: self.buffer[..<end].dropLast(), as: UTF8.self)
                self.buffer.removeFirst(end + 1)
                return line
            }
            try self.fill()
        }
    }

    mutating func bytes(_ count: Int) throws -> [UInt8] {
        while self.buffer.count < count { try self.fill() }
        defer { self.buffer.removeFirst(count) }
        return Array(self.buffer[..<count])
    }

    /// Everything up to the end of the connection.
    mutating func rest() throws -> [UInt8] {
        while try self.receive() {}
        return self.buffer
    }

    private mutating func fill() throws {
        guard try self.receive() else { throw LockError(.storeUnavailable, "the server closed the connection") }
    }

    /// Takes what comes; says whether the connection goes on.
    private mutating func receive() throws -> Bool {
        var chunk = [UInt8](repeating: 0, count: 4096)
        let count = recv(self.descriptor, &chunk, chunk.count, 0)
        guard count >= 0 else { throw LockError(.storeUnavailable, "the server did not answer") }
        self.buffer.append(contentsOf: chunk[..<count])
        return count > 0
    }

    private static func withLoopback(
        port: UInt16,
        _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) -> Int32 {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
