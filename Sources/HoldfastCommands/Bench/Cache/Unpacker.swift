// SPDX-License-Identifier: Apache-2.0

import CLzma
import CZlib
import Glibc

/// Reads a file that may be packed with gzip or xz, piece by piece.
package final class Unpacker {
    /// What the file is packed with.
    ///
    /// zlib wants its state to stay where it is, so it has a place of its own, which `deinit` gives back.
    private enum Form {
        case plain
        case gzip(UnsafeMutablePointer<z_stream>)
        case xz(UnsafeMutablePointer<lzma_stream>)
    }

    /// How much is read and unpacked at once.
    private static let chunk = 1 << 16
    /// How much memory unpacking xz may take: what its strongest preset needs, and some.
    private static let memoryLimit: UInt64 = 128 << 20

    private let path: String
    private let descriptor: Int32
    private var form = Form.plain
    private var packed: [UInt8] = []
    private var position = 0
    private var isAtEnd = false
    private var isDone = false

    /// Opens a file; what it is packed with is told by its first bytes.
    ///
    /// - Parameter path: The file.
    /// - Throws: ``CommandFailure`` when it cannot be read.
    package init(path: String) throws {
        self.path = path
        self.descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard self.descriptor >= 0 else {
            throw CommandFailure(ExitStatus.configuration, "\(path): \(Errno.text)")
        }
        try self.refill()
        if self.packed.starts(with: [0x1F, 0x8B]) {
            let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
            stream.initialize(to: z_stream())
            self.form = .gzip(stream)
            guard holdfast_inflate_init(stream) == Z_OK else { throw self.failure("cannot be unpacked") }
        } else if self.packed.starts(with: [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00]) {
            let stream = UnsafeMutablePointer<lzma_stream>.allocate(capacity: 1)
            stream.initialize(to: lzma_stream())
            self.form = .xz(stream)
            guard holdfast_lzma_init(stream, Self.memoryLimit) == LZMA_OK else {
                throw self.failure("cannot be unpacked")
            }
        }
    }

    deinit {
        switch self.form {
        case .plain: break
        case .gzip(let stream):
            inflateEnd(stream)
            stream.deallocate()
        case .xz(let stream):
            lzma_end(stream)
            stream.deallocate()
        }
        if self.descriptor >= 0 { close(self.descriptor) }
    }

    /// The next bytes.
    ///
    /// - Returns: At least one, or `nil` at the end.
    /// - Throws: ``CommandFailure`` when the file cannot be read or is damaged.
    package func next() throws -> [UInt8]? {
        while !self.isDone {
            if self.position == self.packed.count, !self.isAtEnd { try self.refill() }
            let bytes = try self.unpack()
            if !bytes.isEmpty { return bytes }
        }
        return nil
    }

    private func refill() throws {
        var count = 0
        self.packed = [UInt8](unsafeUninitializedCapacity: Self.chunk) { buffer, filled in
            count = read(self.descriptor, buffer.baseAddress, buffer.count)
            filled = max(0, count)
        }
        guard count >= 0 else { throw self.failure("cannot read: \(Errno.text)") }
        self.position = 0
        self.isAtEnd = count == 0
    }

    private func unpack() throws -> [UInt8] {
        switch self.form {
        case .plain:
            defer { self.position = self.packed.count }
            self.isDone = self.isAtEnd
            return Array(self.packed[self.position...])
        case .gzip(let stream):
            var result = Z_OK
            let bytes = self.output { input, output in
                (stream.pointee.next_in, stream.pointee.avail_in) = (input.baseAddress, UInt32(input.count))
                (stream.pointee.next_out, stream.pointee.avail_out) = (output.baseAddress, UInt32(output.count))
                result = inflate(stream, Z_NO_FLUSH)
                return (input.count - Int(stream.pointee.avail_in), output.count - Int(stream.pointee.avail_out))
            }
            switch result {
            case Z_STREAM_END:
                // Another member may follow.
                guard inflateReset(stream) == Z_OK else { throw self.failure("cannot be unpacked") }
                self.isDone = self.isAtEnd && self.position == self.packed.count
                if self.position == self.packed.count, !self.isAtEnd {
                    try self.refill()
                    self.isDone = self.isAtEnd
                }
            case Z_OK: break
            case Z_BUF_ERROR: if self.isAtEnd { throw self.failure("ends too early") }
            default: throw self.failure("is damaged")
            }
            return bytes
        case .xz(let stream):
            var result = LZMA_OK
            let action = self.isAtEnd ? LZMA_FINISH : LZMA_RUN
            let bytes = self.output { input, output in
                (stream.pointee.next_in, stream.pointee.avail_in) = (UnsafePointer(input.baseAddress), input.count)
                (stream.pointee.next_out, stream.pointee.avail_out) = (output.baseAddress, output.count)
                result = lzma_code(stream, action)
                return (input.count - stream.pointee.avail_in, output.count - stream.pointee.avail_out)
            }
            switch result {
            case LZMA_STREAM_END: self.isDone = true
            case LZMA_OK: break
            case LZMA_BUF_ERROR: if self.isAtEnd { throw self.failure("ends too early") }
            case LZMA_MEMLIMIT_ERROR: throw self.failure("needs more than 128 MiB to be unpacked")
            default: throw self.failure("is damaged")
            }
            return bytes
        }
    }

    /// Unpacks once, from what was read to a new buffer.
    private func output(
        _ code: (UnsafeMutableBufferPointer<UInt8>, UnsafeMutableBufferPointer<UInt8>) -> (read: Int, written: Int)
    ) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: Self.chunk) { output, filled in
            self.packed.withUnsafeMutableBufferPointer { packed in
                let input = UnsafeMutableBufferPointer(rebasing: packed[self.position...])
                let (read, written) = code(input, output)
                self.position += read
                filled = written
            }
        }
    }

    private func failure(_ problem: String) -> CommandFailure {
        CommandFailure(ExitStatus.configuration, "\(self.path): \(problem)")
    }
}
