// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import Synchronization

/// An owner as one line with tabs: `instance-serial host pid started program label`.
///
/// Shorter than JSON and read without a parser; it travels with every acquire.
struct OwnerText: Sendable {
    private struct Process: Sendable {
        let instance: UInt64
        let text: String
    }

    /// What all owners of a process share, so that it is put together once.
    private final class Cache: Sendable {
        let last = Mutex<Process?>(nil)
    }

    private let cache = Cache()

    /// Writes an owner.
    func text(of owner: OwnerID) -> String {
        let process = owner.process
        let shared = self.cache.last.withLock { last in
            if let last, last.instance == process.instance { return last.text }
            let text =
                "\t\(Self.cleaned(process.host))\t\(process.pid)\t\(process.started)\t\(Self.cleaned(process.program))\t"
            last = Process(instance: process.instance, text: text)
            return text
        }
        var text = Hex.text(of: process.instance)
        text.reserveCapacity(40 + shared.utf8.count + (owner.label?.utf8.count ?? 0))
        text += "-"
        text += String(owner.serial)
        text += shared
        if let label = owner.label { text += label }
        return text
    }

    /// Reads an owner; `nil` when the text is not one.
    static func owner(_ text: String) -> OwnerID? {
        let fields = text.split(separator: "\t", maxSplits: 5, omittingEmptySubsequences: false)
        guard fields.count == 6 else { return nil }
        guard let (instance, serial) = OwnerID.parse(id: String(fields[0])),
            let pid = Int32(fields[2]), let started = UInt64(fields[3])
        else { return nil }
        return OwnerID(
            process: ProcessIdentity(
                instance: instance,
                host: Self.cleaned(String(fields[1])),
                pid: pid,
                started: started,
                program: Self.cleaned(String(fields[4]))
            ),
            serial: serial,
            label: fields[5].isEmpty ? nil : String(fields[5])
        )
    }

    /// Without control characters, which would break the line here and reach terminals there.
    private static func cleaned(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: Self.isControl) else { return text }
        return String(String.UnicodeScalarView(text.unicodeScalars.map { Self.isControl($0) ? "?" : $0 }))
    }

    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value)
    }
}
