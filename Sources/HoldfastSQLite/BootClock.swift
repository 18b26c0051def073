// SPDX-License-Identifier: Apache-2.0

import Foundation
import HoldfastCore

/// The machine's time since boot, sleep included: the clock that all processes of a machine share.
///
/// `CLOCK_BOOTTIME`, less the offset of the process' time namespace, so that containers with clocks of their own agree
/// with the rest of the machine. It starts anew with each boot; ``bootID`` tells boots apart.
struct BootClock: Sendable {
    /// Which boot of which kernel this is.
    let bootID: String
    private let offset: Int64

    /// Reads the boot id and the offset of the time namespace.
    ///
    /// - Throws: `LockError` when the kernel does not give a boot id: leases could then not be trusted after a reboot.
    init() throws(LockError) {
        guard let text = SmallFile.text("/proc/sys/kernel/random/boot_id"), text.utf8.count >= 32 else {
            throw LockError(
                .storeRefused,
                "the SQLite store needs /proc/sys/kernel/random/boot_id, which cannot be read; mount /proc"
            )
        }
        self.bootID = String(text.prefix { !$0.isWhitespace })
        let offsets = SmallFile.text("/proc/self/timens_offsets")
        guard offsets != nil || SmallFile.link("/proc/self/ns/time") == nil else {
            throw LockError(
                .storeRefused,
                "the SQLite store needs /proc/self/timens_offsets to know the machine's clock, and cannot read it"
            )
        }
        self.offset = Self.namespaceOffset(offsets ?? "")
    }

    /// Nanoseconds since the machine was booted.
    var now: Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return Timestamp(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec) - self.offset)
    }

    /// Microseconds of the wall clock: a lower bound for tokens of a new boot, never part of a deadline.
    static var wallMicroseconds: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000
    }

    /// Reads the line `boottime SECONDS NANOSECONDS`.
    static func namespaceOffset(_ text: String) -> Int64 {
        for line in text.split(separator: "\n") {
            let words = line.split(whereSeparator: \.isWhitespace)
            guard words.count == 3, words[0] == "boottime" || words[0] == "7" else { continue }
            return (Int64(words[1]) ?? 0) * 1_000_000_000 + (Int64(words[2]) ?? 0)
        }
        return 0
    }
}

/// Small files of `/proc`.
package enum SmallFile {
    /// The beginning of a file, or `nil` when it cannot be read.
    package static func text(_ path: String, limit: Int = 4096) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: limit)
        var length = 0
        // Files of /proc may come in pieces of a page.
        while length < limit {
            let count = bytes.withUnsafeMutableBytes {
                read(descriptor, $0.baseAddress?.advanced(by: length), limit - length)
            }
            guard count >= 0 else { return nil }
            if count == 0 { break }
            length += count
        }
        return String(decoding: bytes.prefix(length), as: UTF8.self)
    }

    /// Where a symbolic link points, or `nil`.
    static func link(_ path: String) -> String? {
        var bytes = [CChar](repeating: 0, count: 256)
        let count = readlink(path, &bytes, bytes.count)
        return count > 0 ? String(decoding: bytes.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
    }
}
