// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

extension ProcessIdentity {
    /// Describes this process.
    ///
    /// - Parameters:
    ///   - instance: A random number.
    ///   - program: The name of the program, or `nil` for the last part of the first argument.
    /// - Returns: The identity; host `unknown` and start 0 when the system does not tell.
    public static func current(instance: UInt64, program: String? = nil) -> ProcessIdentity {
        ProcessIdentity(
            instance: instance,
            host: hostName(),
            pid: getpid(),
            started: startTicks(),
            program: program ?? programName()
        )
    }

    private static func programName() -> String {
        let path = CommandLine.arguments.first ?? ""
        return path.split(separator: "/").last.map(String.init) ?? "unknown"
    }

    private static func hostName() -> String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard unsafe gethostname(&buffer, buffer.count - 1) == 0 else { return "unknown" }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Field 22 of `/proc/self/stat`; the name in field 2 may hold spaces and parentheses, so count from the last `)`.
    private static func startTicks() -> UInt64 {
        let descriptor = unsafe open("/proc/self/stat", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return 0 }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 1024)
        let count = unsafe read(descriptor, &buffer, buffer.count)
        guard count > 0, let end = buffer.prefix(count).lastIndex(of: UInt8(ascii: ")")) else { return 0 }
        let fields = buffer[(end + 1)..<count].split(separator: UInt8(ascii: " "))
        // After the name come fields 3, 4, …: field 22 is the twentieth of them.
        guard fields.count > 19 else { return 0 }
        return UInt64(String(decoding: fields[19], as: UTF8.self)) ?? 0
    }
}
