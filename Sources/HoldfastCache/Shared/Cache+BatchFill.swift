// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import Synchronization

// Loading several keys by one call of a loader, through the tier and under their locks.
extension Cache {
    /// One of several keys that are loaded together.
    struct BatchFill: Sendable {
        let fill: Fill
        /// Gives it up.
        let alarm: CacheTimers.ID
    }

    /// A key that this process loads now.
    private struct Own: Sendable {
        let one: BatchFill
        /// What it is called in the tier; `nil` when it cannot be shared.
        var text: String?
        var look: SharedLink<Key, Value>.Look?
        var lease: Lease?
    }

    /// A key that is called something in the tier.
    private struct Named: Sendable {
        let one: BatchFill
        let text: String
        let watch: KeyWatch
        var look: SharedLink<Key, Value>.Look
    }

    /// Whose turn it is.
    private enum Share: Sendable {
        case ours(Own)
        case others(Named)
        case over
    }

    /// Gets the values of keys from the tier or the loader.
    ///
    /// One look for all, their locks at the same time and without waiting, another look, one call of the loader, one write.
    /// A key that somebody else is loading is waited for by itself, and loaded by itself if he does not get it.
    func load(_ batch: [BatchFill], _ options: CacheOptions, _ loader: @escaping BatchLoader) async {
        var batch = batch
        if self.source?.behind != nil {
            batch.removeAll { one in
                guard let landing = self.pendingLanding(one.fill) else { return false }
                self.land(landing, one)
                return true
            }
        }
        guard let link = self.link else {
            return await self.load(batch.map { Own(one: $0) }, nil, options, LoadPatience(), loader)
        }
        var own: [Own] = []
        var named: [Named] = []
        for one in batch {
            let text = link.text(one.fill.key)
            guard (try? CacheLimits.check([text], in: link.namespace)) != nil else {
                own.append(Own(one: one))
                continue
            }
            let watch = link.watches.begin(text)
            named.append(Named(one: one, text: text, watch: watch, look: .nothing(TierPlace(version: 0, mark: 0))))
        }
        let watched = named
        defer { for one in watched { link.watches.end(one.text, one.watch) } }
        // What one of them waited for in vain, none of them waits for.
        let patience = LoadPatience()
        named = await self.look(named, link, patience)
        let shares = await self.shares(named, link, patience)
        var others: [Named] = []
        var leased: [Named] = []
        var leases: [String: Lease] = [:]
        for share in shares {
            switch share {
            case .over: break
            case .others(let one): others.append(one)
            case .ours(let one):
                guard let lease = one.lease, let text = one.text, let look = one.look else {
                    own.append(one)
                    continue
                }
                leases[text] = lease
                leased.append(Named(one: one.one, text: text, watch: KeyWatch(), look: look))
            }
        }
        // Somebody may have loaded them before it was our turn.
        for one in await self.look(leased, link, patience) {
            own.append(Own(one: one.one, text: one.text, look: one.look, lease: leases[one.text]))
        }
        let ours = own
        await withDiscardingTaskGroup { group in
            if !ours.isEmpty { group.addTask { await self.load(ours, link, options, patience, loader) } }
            for other in others {
                group.addTask { await self.land(self.landing(other.one.fill), other.one) }
            }
        }
    }

    /// Looks for keys in the tier, and ends the loads of those that are there.
    ///
    /// - Returns: The others.
    private func look(
        _ named: [Named],
        _ link: SharedLink<Key, Value>,
        _ patience: LoadPatience
    ) async -> [Named] {
        guard !named.isEmpty else { return [] }
        var left: [Named] = []
        for (one, finding) in zip(named, await link.look(named.map(\.text), by: patience)) {
            self.count(finding)
            if let landing = self.usable(finding.look, one.one.fill) {
                self.land(landing, one.one)
            } else {
                var one = one
                one.look = finding.look
                left.append(one)
            }
        }
        return left
    }

    /// Asks for the lock of each key, without waiting.
    private func shares(
        _ named: [Named],
        _ link: SharedLink<Key, Value>,
        _ patience: LoadPatience
    ) async -> [Share] {
        guard let locks = self.service.locks else {
            return named.map { .ours(Own(one: $0.one, text: $0.text, look: $0.look)) }
        }
        return await withTaskGroup(of: Share.self) { group in
            for one in named {
                group.addTask { await self.share(one, link, locks, patience) }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
    }

    private func share(
        _ named: Named,
        _ link: SharedLink<Key, Value>,
        _ locks: GuardedLocks,
        _ patience: LoadPatience
    ) async -> Share {
        let fill = named.one.fill
        var own = Own(one: named.one, text: named.text, look: named.look)
        guard fill.options.coordination == .distributed else { return .ours(own) }
        do {
            let taken = try await link.meter.measure(.lockWait) {
                try await locks.tryAcquire(
                    link.resource(named.text),
                    lease: link.fillLease,
                    by: fill.lockPatience(patience)
                )
            }
            guard let lease = taken else { return .others(named) }
            guard await fill.hold.keep(lease, since: fill.flight.supersessions) else {
                self.land(self.failure(CancellationError(), fill), named.one)
                return .over
            }
            own.lease = lease
            return .ours(own)
        } catch {
            guard let landing = self.landing(withoutLock: error, fill, named.look) else { return .ours(own) }
            self.land(landing, named.one)
            return .over
        }
    }

    /// Calls the loader for keys, writes what it gives to the tier, and ends their loads.
    private func load(
        _ own: [Own],
        _ link: SharedLink<Key, Value>?,
        _ options: CacheOptions,
        _ patience: LoadPatience,
        _ loader: BatchLoader
    ) async {
        guard !own.isEmpty else { return }
        let context = LoadContext<Value>(
            options,
            // Each key has its own, and its own token.
            stale: own.count == 1 ? own[0].one.fill.stale : nil,
            isBackground: own.allSatisfy(\.one.fill.isBackground),
            fencingToken: own.count == 1 ? own[0].lease?.fencingToken : nil,
            deadline: own.map(\.one.fill.deadline).min() ?? self.service.clock.instant(of: self.now),
            onTags: { tags in
                let tags = self.generations.tags(tags)
                for one in own { one.one.fill.flight.carry(tags) }
            }
        )
        let result: Result<[Key: Value], any Error>
        let start = self.now
        do {
            result = .success(try await loader(own.map(\.one.fill.key), context))
        } catch {
            result = .failure(error)
        }
        self.countLoader(since: start)
        let settings = context.close()
        var landings = own.map { one in
            let content = result.map { values in values[one.one.fill.key].map { .value($0) } ?? Content.notFound }
            var landing = Landing(content, settings)
            (landing.owner, landing.token) = (one.lease?.owner, one.lease?.fencingToken)
            return landing
        }
        if let link { await self.write(own, &landings, link, patience) }
        for (one, landing) in zip(own, landings) { self.land(landing, one.one) }
    }

    /// Writes what was loaded to the tier.
    private func write(
        _ own: [Own],
        _ landings: inout [Landing<Value>],
        _ link: SharedLink<Key, Value>,
        _ patience: LoadPatience
    ) async {
        var writes: [(place: Int, write: TierWrite)] = []
        for (place, one) in own.enumerated() {
            guard let text = one.text, let look = one.look,
                let write = self.offer(&landings[place], one.one.fill, link, text, look, one.lease)
            else { continue }
            writes.append((place, write))
        }
        for some in writes.batches {
            do {
                let batch = some.map(\.write)
                let replies = try await link.ask(.write, by: patience) {
                    try await $0.write(batch, in: link.namespace)
                }
                for (one, reply) in zip(some, replies) { landings[one.place].note(reply, one.write.key) }
            } catch {
                self.noteTierFailure(error)
                for one in some { landings[one.place].version = own[one.place].look?.place?.version }
            }
        }
    }

    /// Ends the load of one of the keys.
    private func land(_ landing: Landing<Value>, _ one: BatchFill) {
        self.service.timers.cancel(one.alarm)
        self.land(one.fill.flight, one.fill.key, one.fill.hash, landing, isBackground: one.fill.isBackground)
        one.fill.flight.stop.wake(.finished)
    }
}
