// SPDX-License-Identifier: Apache-2.0

/// How a connection to Redis is encrypted.
///
/// At least TLS 1.2. Needs the package trait `RedisTLS`.
public struct RedisTLS: Sendable, Hashable {
    /// What is checked of the server.
    public enum Verification: String, Sendable, Hashable {
        /// That its certificate is signed by somebody we trust and made out to the host we asked for.
        case full
        /// Nothing: anybody between us and the server can read and change everything, passwords included.
        case none
    }

    /// A PEM file with the certificates that are trusted; `nil` for those of the system.
    public var authorityFile: String?
    /// A PEM file with our own certificate and those that signed it, if the server asks for one.
    public var certificateFile: String?
    /// A PEM file with the key of our own certificate.
    public var keyFile: String?
    /// The name to ask for and to find in the server's certificate; `nil` for the host of the URL.
    public var serverName: String?
    /// What is checked of the server.
    public var verification: Verification

    /// Makes settings that check everything against the authorities of the system.
    public init() { self.verification = .full }
}
