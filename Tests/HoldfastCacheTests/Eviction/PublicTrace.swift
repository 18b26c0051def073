// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import Testing

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

    /// What a test says that checks nothing without them.
    static let hint: Comment = "HOLDFAST_TRACES names no directory of public traces; see Docs/Performance.md"

    /// All requests of a trace.
    static func read(_ name: String, _ format: TraceFormat) throws -> [TraceRequest] {
        let path = "\(self.directory ?? "")/\(name)"
        let tool = name.hasSuffix(".xz") ? "xz" : "gzip"
        try #require(access(path, R_OK) == 0, "there is no \(path)")
        let pipe = try #require(popen("\(tool) -dc '\(path)'", "r"))
        defer { pclose(pipe) }
        var reader = TraceReader(format: format, fileDescriptor: fileno(pipe))
        var requests: [TraceRequest] = []
        while let request = try reader.next() { requests.append(request) }
        return requests
    }
}
