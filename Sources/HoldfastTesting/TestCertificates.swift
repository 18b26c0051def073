// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCore

/// Certificates for tests: an authority, a server on loopback and a client that it signed, and an authority that signed
/// nothing.
///
/// Made with the `openssl` program, in a directory of their own that goes away with the object.
public final class TestCertificates: Sendable {
    /// The directory.
    public let directory: String

    /// Makes them; takes a fraction of a second.
    ///
    /// - Parameter names: What the server's certificate is made out to.
    /// - Throws: ``LockError`` when `openssl` is missing or fails.
    public init(names: String = "DNS:localhost,IP:127.0.0.1") async throws {
        self.directory = try TemporaryDirectory.make(prefix: "holdfast-tls-")
        for authority in ["ca", "other-ca"] {
            try await self.openssl(
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=\(authority)",
                "-keyout",
                self.path("\(authority).key"),
                "-out",
                self.path("\(authority).crt")
            )
        }
        for (name, names) in [("server", names), ("client", "DNS:client")] {
            try await self.openssl(
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=\(name)",
                "-addext",
                "subjectAltName=\(names)",
                "-addext",
                "basicConstraints=CA:FALSE",
                "-CA",
                self.path("ca.crt"),
                "-CAkey",
                self.path("ca.key"),
                "-keyout",
                self.path("\(name).key"),
                "-out",
                self.path("\(name).crt")
            )
        }
    }

    deinit { TemporaryDirectory.remove(self.directory) }

    /// The path of one: `ca`, `other-ca`, `server` or `client`, with `.crt` or `.key`.
    public func path(_ name: String) -> String { "\(self.directory)/\(name)" }

    /// What a Redis server needs to answer on a port with TLS.
    ///
    /// - Parameters:
    ///   - port: The port.
    ///   - asksClients: Whether clients have to show a certificate.
    /// - Returns: Arguments for ``RedisServer``.
    public func redisArguments(port: UInt16, asksClients: Bool = false) -> [String] {
        [
            "--tls-port", "\(port)", "--tls-cert-file", self.path("server.crt"), "--tls-key-file",
            self.path("server.key"), "--tls-ca-cert-file", self.path("ca.crt"), "--tls-auth-clients",
            asksClients ? "yes" : "no",
        ]
    }

    private func openssl(_ arguments: String...) async throws {
        guard let program = ChildProcess.find("openssl") else {
            throw LockError(.storeUnavailable, "openssl not found; run `make bootstrap`")
        }
        let child = try ChildProcess(program, arguments)
        for _ in 0..<2000 {
            if child.hasExited { break }
            try await Task.sleep(for: .milliseconds(5))
        }
        guard child.hasExited, access(arguments[arguments.count - 1], R_OK) == 0 else {
            throw LockError(.storeUnavailable, "openssl failed: \(arguments.joined(separator: " "))")
        }
    }
}
