// SPDX-License-Identifier: Apache-2.0

import Glibc

/// The log that all workers of the demo append to; each line is written at once, so lines never mix.
package struct DemoLog: Sendable {
    private let path: String

    /// Names a log.
    package init(path: String) { self.path = path }

    /// Appends a line.
    ///
    /// - Throws: ``CommandFailure`` when it cannot be written.
    package func append(_ event: DemoEvent) throws {
        let descriptor = open(self.path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw CommandFailure(ExitStatus.unavailable, "cannot write the demo's log: \(Errno.text)")
        }
        defer { close(descriptor) }
        try Output.write(event.line + "\n", to: descriptor)
    }

    /// Reads the events after a place in the log.
    ///
    /// - Parameter place: Where to start, in bytes; moved behind the last whole line.
    /// - Returns: The events in the order of the log.
    package func events(after place: inout Int) -> [DemoEvent] {
        let descriptor = open(self.path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return [] }
        defer { close(descriptor) }
        guard let bytes = try? DemoIndex.bytes(from: descriptor), bytes.count > place,
            let end = bytes.lastIndex(of: UInt8(ascii: "\n")), end >= place
        else { return [] }
        let text = String(decoding: bytes[place...end], as: UTF8.self)
        place = end + 1
        return text.split(separator: "\n").compactMap { DemoEvent(line: $0) }
    }
}
