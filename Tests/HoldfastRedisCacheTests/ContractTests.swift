// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastRedis
import HoldfastRedisCache
import HoldfastTesting
import Testing

@Suite("MemoryCacheTier keeps the contract", .timeLimit(.minutes(5)))
struct MemoryCacheTierContractTests {
    @Test(arguments: TierContract.cases)
    func keeps(_ promise: TierContract.Case) async throws {
        let clock = ManualClock()
        let tier = MemoryCacheTier(clock: clock)
        try await promise.check(TierContract.Subject(pass: { clock.advance(by: $0) }) { tier })
    }

    @Test(arguments: TierContract.busCases)
    func delivers(_ promise: TierContract.BusCase) async throws {
        let bus = MemoryCacheBus()
        try await promise.check { bus }
    }
}

@Suite("RedisCacheTier keeps the contract", .timeLimit(.minutes(5)))
struct RedisCacheTierContractTests {
    @Test(arguments: TierContract.cases)
    func keeps(_ promise: TierContract.Case) async throws {
        let url = try await SharedRedis.shared.server.url + "?timeout=10s"
        try await promise.check(TierContract.Subject(shortLife: .seconds(1)) { try Make.tier(url) })
    }

    @Test(arguments: TierContract.busCases)
    func delivers(_ promise: TierContract.BusCase) async throws {
        let (url, channel) = (try await SharedRedis.shared.server.url + "?timeout=10s", Make.channel())
        try await promise.check { RedisCacheBus(try RedisCacheConnection(url: url, channel: channel)) }
    }
}

@Suite("RedisCacheTier keeps the contract behind Sentinel", .timeLimit(.minutes(5)))
struct SentinelCacheTierContractTests {
    @Test(arguments: TierContract.cases)
    func keeps(_ promise: TierContract.Case) async throws {
        let url = try await SharedSentinels.shared.servers.url + "?timeout=10s"
        try await promise.check(TierContract.Subject(shortLife: .seconds(1)) { try Make.tier(url) })
    }

    @Test(arguments: TierContract.busCases)
    func delivers(_ promise: TierContract.BusCase) async throws {
        let (url, channel) = (try await SharedSentinels.shared.servers.url + "?timeout=10s", Make.channel())
        try await promise.check { RedisCacheBus(try RedisCacheConnection(url: url, channel: channel)) }
    }
}

@Suite("RedisCacheTier keeps the contract on a cluster", .timeLimit(.minutes(5)))
struct ClusterCacheTierContractTests {
    @Test(arguments: TierContract.cases)
    func keeps(_ promise: TierContract.Case) async throws {
        let url = try await SharedCluster.shared.servers.url + "?timeout=10s"
        try await promise.check(TierContract.Subject(shortLife: .seconds(2)) { try Make.tier(url) })
    }

    @Test(arguments: TierContract.busCases)
    func delivers(_ promise: TierContract.BusCase) async throws {
        let (url, channel) = (try await SharedCluster.shared.servers.url + "?timeout=10s", Make.channel())
        try await promise.check { RedisCacheBus(try RedisCacheConnection(url: url, channel: channel)) }
    }
}
