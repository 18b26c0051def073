// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import NIOCore

#if RedisTLS
import NIOSSL

/// Encrypts connections to one server.
struct TransportSecurity: Sendable {
    private let context: NIOSSLContext
    private let name: String?

    /// Reads the files.
    ///
    /// - Throws: ``LockError`` with code ``LockError/Code/invalidArgument`` that names the file.
    init(_ settings: RedisTLS) throws(LockError) {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.minimumTLSVersion = .tlsv12
        configuration.certificateVerification = settings.verification == .full ? .fullVerification : .none
        if let file = settings.authorityFile {
            let certificates = try Self.read(file, "ca") { try NIOSSLCertificate.fromPEMFile(file) }
            configuration.trustRoots = .certificates(certificates)
        }
        if let file = settings.certificateFile {
            let certificates = try Self.read(file, "cert") { try NIOSSLCertificate.fromPEMFile(file) }
            configuration.certificateChain = certificates.map { .certificate($0) }
            let keyFile = settings.keyFile ?? file
            let key = try Self.read(keyFile, "key") { try NIOSSLPrivateKey(file: keyFile, format: .pem) }
            configuration.privateKey = .privateKey(key)
        }
        do {
            self.context = try NIOSSLContext(configuration: configuration)
        } catch {
            throw RedisConfiguration.invalid("the certificates do not fit each other (\(error))")
        }
        self.name = settings.serverName
    }

    private static func read<Result>(
        _ file: String,
        _ setting: String,
        _ body: () throws -> Result
    ) throws(LockError) -> Result {
        do {
            return try body()
        } catch {
            throw RedisConfiguration.invalid("\(setting)= names a file that is missing or no PEM file: \(file)")
        }
    }

    /// Puts encryption before everything else on a connection.
    ///
    /// - Parameters:
    ///   - channel: The connection.
    ///   - host: Whom it is to: behind Sentinel whom they named. The certificate has to be made out to it, unless another
    ///     name was set.
    /// - Throws: What NIO says of a name that is none.
    func secure(_ channel: any Channel, host: String) throws {
        // An address is no name: it is looked for among the addresses that the certificate is made out to.
        let name = self.name ?? host
        let isAddress = (try? SocketAddress(ipAddress: name, port: 0)) != nil
        let handler = try NIOSSLClientHandler(context: self.context, serverHostname: isAddress ? nil : name)
        try channel.pipeline.syncOperations.addHandler(handler)
    }

    /// What an error of a connection means, when it is one of encryption.
    static func failure(_ error: any Error) -> LinkFailure? {
        switch error {
        case NIOSSLError.handshakeFailed, is NIOSSLExtraError, NIOSSLError.unableToValidateCertificate,
            is BoringSSLError:
            .insecure(Self.reason(String(describing: error)))
        default: nil
        }
    }

    private static func reason(_ text: String) -> String {
        if text.contains("CERTIFICATE_VERIFY_FAILED") {
            return "its certificate is not signed by an authority that is trusted; name one with ca=FILE"
        }
        if text.contains("ailedToValidateHostname") || text.contains("HostnameImpossible") {
            return "its certificate is made out to another name; if that is right, give the name with sni=NAME"
        }
        if text.contains("WRONG_VERSION_NUMBER") {
            return "it does not speak TLS on this port; use redis:// or another"
        }
        if text.contains("CERTIFICATE_REQUIRED") || text.contains("HANDSHAKE_FAILURE") {
            return "it wants a certificate of ours; give cert=FILE and key=FILE"
        }
        return text
    }
}
#else
/// Encryption that this build has not.
struct TransportSecurity: Sendable {
    init(_ settings: RedisTLS) throws(LockError) {
        throw LockError(
            .unsupported,
            "this build has no TLS for Redis; build with the package trait RedisTLS, or put a TLS proxy before the server"
        )
    }

    func secure(_ channel: any Channel, host: String) throws {}

    static func failure(_ error: any Error) -> LinkFailure? { nil }
}
#endif
