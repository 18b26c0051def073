// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Foundation
import HoldfastCore
import Synchronization

/// Signals between processes: one Unix datagram socket for each store object, in a directory beside the database.
///
/// Sending never blocks, and a signal that does not fit into the receiver's buffer is dropped: the watch of waiting
/// requests makes up for it. Names are reached through `/proc/self/fd`, so that long paths fit into a socket address.
final class SignalSocket: Sendable {
    /// What the directory's name ends in.
    static let suffix = "-signals"
    /// Signals in one datagram: well below the least socket buffer.
    private static let maximumBatch = 64
    /// A socket file whose owner is gone is removed only when it is older than this, in seconds, so that one that is
    /// just being made is left alone.
    private static let staleAge = 10

    private let directory: Int32
    private let sender: Int32
    private let source: Mutex<any DispatchSourceRead>
    private let name: String

    /// Makes the directory and the socket, and removes sockets that nobody listens on.
    ///
    /// - Parameters:
    ///   - database: The database file.
    ///   - name: The name of this store object, free of slashes.
    ///   - onSignal: Gets each signal, on a queue of its own.
    /// - Throws: `LockError` when no socket can be made.
    init(database: String, name: String, onSignal: @escaping @Sendable (StoreSignal) -> Void) throws(LockError) {
        let path = database + Self.suffix
        mkdir(path, 0o700)
        let directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard directory >= 0 else { throw StoreFailure.systemError(errno, path: path) }
        var info = stat()
        guard fstat(directory, &info) == 0, info.st_uid == geteuid() || geteuid() == 0 else {
            close(directory)
            throw LockError(.storeRefused, "\(path) belongs to another user; remove it or choose another lock file")
        }
        Self.removeStale(in: path, directory: directory)
        let receiver = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        let sender = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        let file = name + ".sock"
        unlinkat(directory, file, 0)
        guard receiver >= 0, sender >= 0, Self.withAddress(directory, file, { bind(receiver, $0, $1) }) == 0 else {
            let reason = errno
            for descriptor in [receiver, sender, directory] where descriptor >= 0 { close(descriptor) }
            throw StoreFailure.systemError(reason, path: path)
        }
        self.directory = directory
        self.sender = sender
        self.name = file
        let source = DispatchSource.makeReadSource(
            fileDescriptor: receiver,
            queue: DispatchQueue(label: "holdfast.sqlite.signals", qos: .userInitiated)
        )
        source.setEventHandler { Self.receive(from: receiver, onSignal) }
        source.setCancelHandler { close(receiver) }
        source.activate()
        self.source = Mutex(source)
    }

    deinit {
        self.source.withLock { $0.cancel() }
        unlinkat(self.directory, self.name, 0)
        close(self.sender)
        close(self.directory)
    }

    /// Sends signals to another store object, in as few datagrams as fit.
    func send(_ signals: [StoreSignal], to channel: String) {
        // A name from the file must not lead out of the directory.
        guard !channel.isEmpty, channel.utf8.allSatisfy({ Self.isNameByte($0) }) else { return }
        var rest = signals[...]
        while !rest.isEmpty {
            let bytes = rest.prefix(Self.maximumBatch).flatMap { SignalCode.bytes(of: $0) }
            rest = rest.dropFirst(Self.maximumBatch)
            _ = Self.withAddress(self.directory, channel + ".sock") { address, length in
                Int32(sendto(self.sender, bytes, bytes.count, Int32(MSG_NOSIGNAL), address, length))
            }
        }
    }

    /// Whether somebody listens under a name.
    func reaches(_ channel: String) -> Bool {
        guard !channel.isEmpty, channel.utf8.allSatisfy({ Self.isNameByte($0) }) else { return false }
        // An empty datagram carries no signal, but tells whether it found a reader.
        return Self.withAddress(self.directory, channel + ".sock") { address, length in
            sendto(self.sender, nil, 0, Int32(MSG_NOSIGNAL), address, length) == 0 || errno == EAGAIN ? 0 : -1
        } == 0
    }

    /// The names of sockets that nobody listens on any more.
    static func stale(in path: String) -> [String] {
        let directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard directory >= 0 else { return [] }
        defer { close(directory) }
        return Self.staleNames(in: path, directory: directory)
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
    }

    private static func removeStale(in path: String, directory: Int32) {
        for name in Self.staleNames(in: path, directory: directory) { unlinkat(directory, name, 0) }
    }

    private static func staleNames(in path: String, directory: Int32) -> [String] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
        let probe = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard probe >= 0 else { return [] }
        defer { close(probe) }
        return names.filter { name in
            var info = stat()
            guard name.hasSuffix(".sock"), fstatat(directory, name, &info, AT_SYMLINK_NOFOLLOW) == 0,
                time(nil) - info.st_mtim.tv_sec > Self.staleAge
            else { return false }
            return Self.withAddress(directory, name) { connect(probe, $0, $1) } != 0 && errno == ECONNREFUSED
        }
    }

    /// Calls a system call with the address of a name in the directory.
    private static func withAddress(
        _ directory: Int32,
        _ name: String,
        _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let path = Array("/proc/self/fd/\(directory)/\(name)".utf8)
        guard path.count < MemoryLayout.size(ofValue: address.sun_path) else {
            errno = ENAMETOOLONG
            return -1
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }

    private static func receive(from descriptor: Int32, _ onSignal: (StoreSignal) -> Void) {
        var bytes = [UInt8](repeating: 0, count: Self.maximumBatch * SignalCode.length)
        while true {
            let count = recv(descriptor, &bytes, bytes.count, 0)
            // An empty datagram only asks whether anybody is here.
            if count == 0 { continue }
            guard count > 0 else { return }
            for start in stride(from: 0, to: count - SignalCode.length + 1, by: SignalCode.length) {
                if let signal = SignalCode.signal(bytes[start..<start + SignalCode.length]) { onSignal(signal) }
            }
        }
    }
}

/// Signals as bytes: a kind, an id and a number, 25 bytes in all.
enum SignalCode {
    /// The bytes of one signal.
    static let length = 25

    /// The bytes of a signal.
    static func bytes(of signal: StoreSignal) -> [UInt8] {
        switch signal {
        // Whoever hears of it from elsewhere asks.
        case .granted(let id), .handedOver(let id, _, since: _): Self.bytes(1, id, 0)
        case .check(let id, let delay): Self.bytes(2, id, UInt64(clamping: delay.nanoseconds))
        case .lost(let id, .forced): Self.bytes(3, id, 1)
        // The other reasons are a holder's own; a store has nothing to say of them but that the grant is gone.
        case .lost(let id, .expired), .lost(let id, .deadline), .lost(let id, .stopped): Self.bytes(3, id, 0)
        case .revokeRequested(let id): Self.bytes(4, id, 0)
        case .interrupted: Self.bytes(5, RequestID(high: 0, low: 0), 0)
        case .doubted: Self.bytes(6, RequestID(high: 0, low: 0), 0)
        }
    }

    /// Reads what ``bytes(of:)`` gives; `nil` for anything else.
    static func signal(_ bytes: ArraySlice<UInt8>) -> StoreSignal? {
        guard bytes.count == Self.length, let kind = bytes.first else { return nil }
        let words = (0..<3).map { index in
            bytes.dropFirst(1 + 8 * index).prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        }
        let id = RequestID(high: words[0], low: words[1])
        return switch kind {
        case 1: .granted(id)
        case 2: .check(id, after: .nanoseconds(Int64(clamping: words[2])))
        case 3: words[2] == 1 ? .lost(id, .forced) : .lost(id, .expired)
        case 4: .revokeRequested(id)
        case 5: .interrupted
        case 6: .doubted
        default: nil
        }
    }

    private static func bytes(_ kind: UInt8, _ id: RequestID, _ number: UInt64) -> [UInt8] {
        [kind]
            + [id.high, id.low, number].flatMap { word in
                (0..<8).map { UInt8(truncatingIfNeeded: word >> (56 - 8 * $0)) }
            }
    }
}
