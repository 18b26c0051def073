// SPDX-License-Identifier: Apache-2.0

internal import CHiredisReader

/// Turns bytes of a connection into replies, with limits on everything that a server could blow up.
///
/// Not thread-safe; it belongs to one connection's event loop. After an error the reader and its connection are
/// finished. The pointer below is made in init, freed in deinit and used by nobody else.
@safe package final class ReplyReader {
    /// Why a reader gave up.
    package enum Failure: Error, Hashable {
        /// The bytes are not RESP2.
        case notRedis
        /// A line, string, array, reply or nesting above its limit.
        case tooLarge
        /// No memory.
        case outOfMemory
    }

    /// Limits on what a server may send.
    package struct Limits: Sendable {
        /// Bytes of a line; error lines of Redis stay far below.
        package var line = 64 * 1024
        /// Bytes of one string, and of all strings of one reply: ours stay below 1 MB.
        package var reply = 16 * 1024 * 1024
        /// Elements of all arrays of one reply.
        package var elements = 1_000_000
        /// Arrays within arrays; hiredis 0.14 stops at 8 by itself.
        package var depth = 8

        /// The default limits.
        package init() {}
    }

    /// The most bytes to give to hiredis at once: it moves the rest of its buffer after each kilobyte it has read.
    private static let slice = 16 * 1024

    private let builder: ReplyBuilder
    private let reader: OpaquePointer

    /// Makes a reader.
    ///
    /// - Parameter limits: Limits on what a server may send.
    /// - Throws: ``Failure/outOfMemory``.
    package init(limits: Limits = Limits()) throws(Failure) {
        self.builder = ReplyBuilder(limits: limits)
        // The builder lives exactly as long as the reader, which is freed in deinit.
        let context = unsafe Unmanaged.passUnretained(self.builder).toOpaque()
        let callbacks = unsafe holdfast_reader_callbacks(
            on_string: { context, kind, bytes, length in
                let part = unsafe UnsafeRawBufferPointer(start: bytes, count: length)
                unsafe ReplyReader.builder(context)?.string(kind, part)
            },
            on_array: { context, count in unsafe ReplyReader.builder(context)?.array(Int(count)) },
            on_integer: { context, value in unsafe ReplyReader.builder(context)?.item(.integer(value)) },
            on_null: { context in unsafe ReplyReader.builder(context)?.item(.null) }
        )
        guard let reader = unsafe holdfast_reader_create(callbacks, context, limits.line, limits.reply) else {
            throw .outOfMemory
        }
        unsafe self.reader = reader
    }

    deinit { unsafe holdfast_reader_free(self.reader) }

    /// Reads bytes.
    ///
    /// - Parameters:
    ///   - bytes: Any part of a stream of replies.
    ///   - replies: Receives the replies that are complete.
    /// - Throws: ``Failure``; the replies before the bad one are still given.
    package func read(_ bytes: UnsafeRawBufferPointer, into replies: inout [RedisReply]) throws(Failure) {
        var offset = 0
        while offset < bytes.count {
            let count = min(Self.slice, bytes.count - offset)
            let start = unsafe bytes.baseAddress?.advanced(by: offset).assumingMemoryBound(to: CChar.self)
            unsafe try Self.check(holdfast_reader_feed(self.reader, start, count))
            offset += count
            while true {
                let result = unsafe holdfast_reader_next(self.reader)
                if self.builder.isOverLimit { throw .tooLarge }
                guard result == HOLDFAST_READER_REPLY else {
                    try Self.check(result)
                    break
                }
                if let reply = self.builder.take() { replies.append(reply) }
            }
        }
    }

    private static func check(_ result: holdfast_reader_result) throws(Failure) {
        switch result {
        case HOLDFAST_READER_MORE, HOLDFAST_READER_REPLY: return
        case HOLDFAST_READER_LIMIT: throw .tooLarge
        case HOLDFAST_READER_MEMORY: throw .outOfMemory
        default: throw .notRedis
        }
    }

    private static func builder(_ context: UnsafeMutableRawPointer?) -> ReplyBuilder? {
        unsafe context.map { unsafe Unmanaged<ReplyBuilder>.fromOpaque($0).takeUnretainedValue() }
    }
}

/// Puts the parts of one reply together.
private final class ReplyBuilder {
    private struct Level {
        var items: [RedisReply]
        var missing: Int
    }

    private let limits: ReplyReader.Limits
    private var root: RedisReply?
    private var levels: [Level] = []
    private var bytes = 0
    private var elements = 0
    private(set) var isOverLimit = false

    init(limits: ReplyReader.Limits) { self.limits = limits }

    func take() -> RedisReply? {
        defer {
            self.root = nil
            self.bytes = 0
            self.elements = 0
        }
        return self.root
    }

    func string(_ kind: holdfast_reader_kind, _ part: UnsafeRawBufferPointer) {
        self.bytes += part.count
        guard self.bytes <= self.limits.reply else {
            self.isOverLimit = true
            return
        }
        switch kind {
        case HOLDFAST_READER_STATUS: unsafe self.item(.status(String(decoding: part, as: UTF8.self)))
        case HOLDFAST_READER_ERROR: unsafe self.item(.error(String(decoding: part, as: UTF8.self)))
        default: unsafe self.item(.string(Array(part)))
        }
    }

    func array(_ count: Int) {
        self.elements += max(0, count)
        guard self.levels.count < self.limits.depth, self.elements <= self.limits.elements else {
            self.isOverLimit = true
            return
        }
        guard count > 0 else { return self.item(.array([])) }
        // The count is only announced: reserve no more than a page's worth before the elements come.
        var items: [RedisReply] = []
        items.reserveCapacity(min(count, 128))
        self.levels.append(Level(items: items, missing: count))
    }

    func item(_ reply: RedisReply) {
        guard !self.isOverLimit else { return }
        var reply = reply
        while let last = self.levels.indices.last {
            self.levels[last].items.append(reply)
            self.levels[last].missing -= 1
            guard self.levels[last].missing == 0 else { return }
            reply = .array(self.levels.removeLast().items)
        }
        self.root = reply
    }
}
