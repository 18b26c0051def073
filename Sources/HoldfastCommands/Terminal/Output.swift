// SPDX-License-Identifier: Apache-2.0

import Glibc

/// stdout and stderr, written whole lines at a time.
package enum Output {
    /// Writes a line to stdout.
    ///
    /// - Throws: ``CommandFailure`` when nobody reads any more, so that `holdfast watch | head` ends.
    package static func line(_ text: String) throws { try Self.write(text + "\n", to: STDOUT_FILENO) }

    /// Writes text to stdout as it is.
    ///
    /// - Throws: ``CommandFailure`` when nobody reads any more.
    package static func text(_ text: String) throws { try Self.write(text, to: STDOUT_FILENO) }

    /// How long a note may be: so much room a pipe has when it has any.
    private static let longestNote = 4000

    /// Writes a line to stderr, with the program's name.
    ///
    /// Never waits: what a full pipe or a stopped terminal does not take is dropped.
    package static func note(_ text: String) {
        var room = pollfd(fd: STDERR_FILENO, events: Int16(POLLOUT), revents: 0)
        guard poll(&room, 1, 0) == 1, room.revents & Int16(POLLOUT) != 0 else { return }
        try? Self.write("holdfast: \(text.prefix(Self.longestNote))\n", to: STDERR_FILENO)
    }

    /// Writes all of a text to a descriptor.
    ///
    /// - Throws: ``CommandFailure``.
    package static func write(_ text: String, to descriptor: Int32) throws {
        try Self.write(Array(text.utf8)[...], to: descriptor)
    }

    /// Writes all of some bytes to a descriptor.
    ///
    /// - Throws: ``CommandFailure``.
    package static func write(_ bytes: ArraySlice<UInt8>, to descriptor: Int32) throws {
        var start = bytes.startIndex
        while start < bytes.endIndex {
            let count = bytes[start...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                if errno == EPIPE { throw CommandFailure(ExitStatus.signalled(SIGPIPE)) }
                throw CommandFailure(ExitStatus.inputOutput, "cannot write: \(Errno.text)")
            }
            start += count
        }
    }
}

/// The last error of a system call in words.
package enum Errno {
    /// The words for the thread's `errno`.
    package static var text: String { Self.text(for: errno) }

    /// The words for an error number.
    package static func text(for number: Int32) -> String { String(cString: strerror(number)) }
}
