// SPDX-License-Identifier: Apache-2.0

import HoldfastCache

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Public traces, which are not in this repository: their directory is in the environment as `HOLDFAST_TRACES`.
enum PublicTrace {
    /// Where they are, if they are.
    static let directory: String? = getenv("HOLDFAST_TRACES").map { String(cString: $0) }

    /// All requests of a trace; `nil` if the file is not there.
    static func read(_ name: String, _ format: TraceFormat) throws -> [TraceRequest]? {
        let path = "\(self.directory ?? "")/\(name)"
        let tool = name.hasSuffix(".xz") ? "xz" : "gzip"
        guard access(path, R_OK) == 0, let pipe = popen("\(tool) -dc '\(path)'", "r") else { return nil }
        defer { pclose(pipe) }
        var reader = TraceReader(format: format, fileDescriptor: fileno(pipe))
        var requests: [TraceRequest] = []
        while let request = try reader.next() { requests.append(request) }
        return requests
    }
}
