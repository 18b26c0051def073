// SPDX-License-Identifier: Apache-2.0

package import HoldfastCore
package import NIOCore
import NIOPosix

#if canImport(Glibc)
import Glibc
#endif

/// Opens connections to one server: by TCP or a Unix socket, in the clear or encrypted.
package struct Connector: Sendable {
    /// One read from the socket: smaller ones start the next commands earlier, and hiredis is fed as much at once.
    private static let readSize = 16 * 1024

    /// How the server is reached.
    package let configuration: RedisConfiguration
    /// The event loop that the connections live on.
    package let loop: any EventLoop
    private let security: TransportSecurity?
    private let finder: MasterFinder?
    private let cautions: Cautions?

    /// Reads what encryption needs; nothing is sent.
    ///
    /// - Parameters:
    ///   - configuration: How the server is reached.
    ///   - loop: Where the connections live.
    ///   - cautions: Told of servers that should be set otherwise.
    /// - Throws: ``LockError`` for files that cannot be read, or when this build has no TLS.
    package init(
        _ configuration: RedisConfiguration,
        loop: any EventLoop,
        cautions: Cautions? = nil
    ) throws(LockError) {
        self.cautions = cautions
        self.configuration = configuration
        self.loop = loop
        self.security = try configuration.tls.map { tls throws(LockError) in
            try TransportSecurity(tls)
        }
        self.finder = try configuration.sentinels.map { sentinels throws(LockError) in
            try MasterFinder(sentinels, for: configuration, loop: loop)
        }
    }

    /// Where the master is that Sentinels named last, where they are asked.
    var found: RedisAddress? { self.finder?.found }

    /// Says what to do whenever Sentinels say which server the connections should lead to, where they are asked.
    func watch(_ onFind: @escaping @Sendable (RedisAddress) -> Void) { self.finder?.watch(onFind) }

    /// Says that the server that is connected should be set otherwise.
    func warn(_ message: String) {
        self.cautions?.say(message, of: (self.found ?? self.address).description)
    }

    private var address: RedisAddress {
        RedisAddress(host: self.configuration.host, port: self.configuration.port)
    }

    /// Stops watching.
    func close() { self.finder?.close() }

    /// Connects within the configured time.
    ///
    /// - Parameters:
    ///   - onTarget: Told which server it is, where Sentinels say so.
    ///   - handler: Makes the handler of the connection's replies.
    /// - Returns: The connection.
    func connect(
        onTarget: @escaping @Sendable (RedisAddress) -> Void,
        _ handler: @escaping @Sendable () throws -> ReplyHandler
    ) -> EventLoopFuture<any Channel> {
        if let path = self.configuration.socketPath {
            return self.bootstrap(self.address, handler).connect(unixDomainSocketPath: path).hop(to: self.loop)
        }
        guard let finder = self.finder else { return self.connect(self.address, handler) }
        return finder.find().flatMap { address in
            onTarget(address)
            return self.connect(address, handler)
        }
    }

    private func connect(
        _ address: RedisAddress,
        _ handler: @escaping @Sendable () throws -> ReplyHandler
    ) -> EventLoopFuture<any Channel> {
        var bootstrap = self.bootstrap(address, handler)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            // A server that is gone without a word is noticed even while nobody asks it anything.
            .channelOption(.socketOption(.so_keepalive), value: 1)
        for (option, value) in Self.keepAlive { bootstrap = bootstrap.channelOption(.tcpOption(option), value: value) }
        return bootstrap.connect(host: address.host, port: address.port).hop(to: self.loop)
    }

    /// After half a minute of silence three questions, ten seconds apart; the kernel's own pause is two hours.
    private static var keepAlive: [(NIOBSDSocket.Option, Int)] {
        #if canImport(Glibc)
        [
            (NIOBSDSocket.Option(rawValue: TCP_KEEPIDLE), 30), (NIOBSDSocket.Option(rawValue: TCP_KEEPINTVL), 10),
            (NIOBSDSocket.Option(rawValue: TCP_KEEPCNT), 3),
        ]
        #else
        []
        #endif
    }

    private func bootstrap(
        _ address: RedisAddress,
        _ handler: @escaping @Sendable () throws -> ReplyHandler
    ) -> ClientBootstrap {
        ClientBootstrap(group: self.loop)
            .connectTimeout(.nanoseconds(self.configuration.timeout.nanoseconds))
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: Self.readSize))
            .channelInitializer { [security] channel in
                channel.eventLoop.makeCompletedFuture {
                    try security?.secure(channel, host: address.host)
                    try channel.pipeline.syncOperations.addHandler(handler())
                }
            }
    }
}
