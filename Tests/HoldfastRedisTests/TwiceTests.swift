// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastRedis
import HoldfastTesting
import NIOCore
import NIOPosix
import Testing

/// All that is asked arrives twice, the copies in any order: counts of holders, permits and places stay what they are.
@Suite("Requests that arrive twice", .timeLimit(.minutes(5)))
struct TwiceTests {
    private static let rounds = 250

    private func holders(_ resource: Resource, _ store: RedisLockStore) async throws -> [Holder] {
        try await store.status(of: resource).holders
    }

    @Test(arguments: [LockMode.exclusive, .shared, .update, .permit(of: 3)])
    func `N4 whoever holds holds once, keeps its token, and is gone when it lets go`(mode: LockMode) async throws {
        let server = try await RedisServer()
        let way = try await MirrorProxy(to: server.port)
        let (store, direct) = (try RedisLockStore(url: way.url + "?timeout=5s"), try RedisLockStore(url: server.calm))
        var last = FencingToken.zero
        for round in 0..<Self.rounds {
            let request = Make.request("x", mode: mode, lease: .seconds(30))
            let token = try #require(try await store.acquire(request).token, "round \(round)")
            #expect(token > last)
            last = token
            var held = try await self.holders("x", direct)
            #expect(held.map(\.fencingToken) == [token], "round \(round)")
            let renewal = Renewal(key: request.key, lease: .seconds(30))
            #expect(try await store.renew([renewal]) == [.renewed(revokeRequested: false)])
            if mode == .update {
                guard case .converted(let raised) = try await store.convert(Conversion(request.key, to: .exclusive))
                else {
                    Issue.record("not upgraded, round \(round)")
                    return
                }
                #expect(raised > token)
                last = raised
                held = try await self.holders("x", direct)
                #expect(held.map(\.mode) == [.exclusive] && held.map(\.fencingToken) == [raised], "round \(round)")
            }
            // The copy may come first: then it had ended before.
            _ = try await store.release(request.key)
            #expect(try await self.holders("x", direct).isEmpty, "round \(round)")
        }
    }

    @Test
    func `permits are counted once, and a queue hands on once`() async throws {
        let server = try await RedisServer()
        let way = try await MirrorProxy(to: server.port)
        let (store, direct) = (try RedisLockStore(url: way.url + "?timeout=5s"), try RedisLockStore(url: server.calm))
        for round in 0..<50 {
            let held = (0..<3).map { _ in Make.request("p", mode: .permit(of: 3), lease: .seconds(30)) }
            for request in held { #expect(try await store.acquire(request).token != nil, "round \(round)") }
            let waiters = (0..<2).map { _ in
                Make.request("p", mode: .permit(of: 3), lease: .seconds(30), acceptance: .seconds(10))
            }
            for waiter in waiters { #expect(try await store.acquire(waiter).place != nil, "round \(round)") }
            #expect(try await direct.status(of: "p").waiters.count == 2)
            _ = try await store.release(held[0].key)
            let status = try await direct.status(of: "p")
            #expect(status.holders.count == 3 && status.waiters.count == 1, "round \(round)")
            #expect(try await store.acquire(waiters[0]).token != nil, "round \(round)")
            for request in held[1...] + waiters { _ = try await store.withdraw(request.key) }
            #expect(try await direct.status(of: "p").isFree, "round \(round)")
        }
    }
}

/// A way to a server on which all that is asked arrives by two connections; the answers of one are thrown away.
private final class MirrorProxy: Sendable {
    private let listener: any Channel

    init(to port: UInt16) async throws {
        self.listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelOption(.autoRead, value: false)
            .childChannelInitializer { client in
                let bootstrap = ClientBootstrap(group: client.eventLoop)
                let ways = (0..<2).map { _ in bootstrap.connect(host: "127.0.0.1", port: Int(port)) }
                return EventLoopFuture.whenAllSucceed(ways, on: client.eventLoop).flatMapThrowing { servers in
                    try client.pipeline.syncOperations.addHandler(Relay(to: servers))
                    try servers[0].pipeline.syncOperations.addHandler(Relay(to: [client]))
                    try servers[1].pipeline.syncOperations.addHandler(Relay(to: []))
                }
                .flatMap { client.setOption(.autoRead, value: true) }
            }
            .bind(host: "127.0.0.1", port: 0).get()
    }

    deinit { self.listener.close(promise: nil) }

    var url: String { "redis://127.0.0.1:\(self.listener.localAddress?.port ?? 0)" }
}

/// Passes on what comes.
private final class Relay: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let targets: [any Channel]

    init(to targets: [any Channel]) { self.targets = targets }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = self.unwrapInboundIn(data)
        for target in self.targets { target.writeAndFlush(bytes, promise: nil) }
    }

    func channelInactive(context: ChannelHandlerContext) {
        for target in self.targets { target.close(promise: nil) }
    }
}
