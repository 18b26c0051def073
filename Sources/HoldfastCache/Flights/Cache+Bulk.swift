// SPDX-License-Identifier: Apache-2.0

import Holdfast
import HoldfastCore
import Synchronization

// Reading many keys through the cache.
extension Cache {
    /// Loads the values of several keys; keys that it leaves out have none.
    public typealias BatchLoader = @Sendable ([Key], LoadContext<Value>) async throws -> [Key: Value]

    /// The values of several keys; those that are not there are loaded together.
    ///
    /// One call of the loader gets the keys that are neither there nor being loaded, each once. Each key is a load of its
    /// own all the same: whoever asks for one of them meanwhile, alone or with others, waits for it, and this call waits
    /// for those that others load. What holds for ``value(for:options:loader:)-(_,_,Loader)`` holds for each key.
    ///
    /// - Parameters:
    ///   - keys: The keys, in any order and any number.
    ///   - options: How the entries live; `nil` for as the cache says.
    ///   - loader: Loads the missing ones.
    /// - Returns: The values of the keys that have one.
    /// - Throws: What the loader threw, ``CacheError``, or `CancellationError`: when any of the keys has no value to give.
    public func values(
        for keys: some Sequence<Key>,
        options: CacheOptions? = nil,
        loader: @escaping BatchLoader
    ) async throws -> [Key: Value] {
        let options = options ?? self.options
        try options.validate()
        // One for all: whatever waits for one of them waits for the loader, and so for all.
        let id = self.service.nextFlight()
        var values: [Key: Value] = [:]
        var waits: [(key: Key, step: Step)] = []
        var led: [BatchMember] = []
        do {
            for key in Set(keys) {
                let hash = Self.hash(key)
                // One task loads them all, and room for it is taken by the first.
                let hasRoom = !led.isEmpty
                let step = try await self.begin(
                    key,
                    hash,
                    tags: options.tags,
                    isFirstLook: true,
                    as: id,
                    hasRoom: hasRoom
                ) { flight, stale, isAside in
                    led.append(
                        BatchMember(key: key, hash: hash, flight: flight, stale: stale, isBackground: isAside)
                    )
                }
                switch step {
                case .give(.value(let value)): values[key] = value
                case .give(.notFound): break
                case .wait: waits.append((key, step))
                }
            }
        } catch {
            // Those that were begun are loaded for whoever joined them meanwhile; we leave.
            if !led.isEmpty { self.start(led, as: id, options, loader) }
            self.leave(waits[...], options)
            throw error
        }
        if !led.isEmpty { self.start(led, as: id, options, loader) }
        let deadlines = waits.map { self.deadline(of: $0.step, as: id, options) }
        // One for all, not one after the other.
        let soft = options.softDeadline.map { self.service.clock.now.after($0) }
        for (place, wait) in waits.enumerated() {
            do {
                let hash = Self.hash(wait.key)
                let alone = Self.alone(wait.key, loader)
                let deadline = deadlines[place]
                values[wait.key] =
                    try await self.end(wait.step, wait.key, hash, options, by: deadline, soft: soft, alone)
            } catch is NotFound {
                continue
            } catch {
                self.leave(waits[(place + 1)...], options)
                throw error
            }
        }
        return values
    }

    /// The values of several keys; those that are not there are loaded together.
    ///
    /// - Parameters:
    ///   - keys: The keys.
    ///   - options: How the entries live; `nil` for as the cache says.
    ///   - loader: Loads the missing ones.
    /// - Returns: The values of the keys that have one.
    /// - Throws: As ``values(for:options:loader:)-(_,_,BatchLoader)``.
    public func values(
        for keys: some Sequence<Key>,
        options: CacheOptions? = nil,
        loader: @escaping @Sendable ([Key]) async throws -> [Key: Value]
    ) async throws -> [Key: Value] {
        try await self.values(for: keys, options: options) { keys, _ in try await loader(keys) }
    }

    struct BatchMember: Sendable {
        let key: Key
        let hash: UInt64
        let flight: Flight<Value>
        let stale: LoadContext<Value>.Stale?
        let isBackground: Bool
    }

    private func leave(_ waits: ArraySlice<(key: Key, step: Step)>, _ options: CacheOptions) {
        for (key, step) in waits {
            guard case .wait(let flight, let caller, _) = step else { continue }
            flight.release(caller, .cancelled)
            flight.forget(caller)
            self.leave(flight, key, Self.hash(key), options)
        }
    }

    /// Starts one load for several keys.
    private func start(
        _ members: [BatchMember],
        as id: FlightID,
        _ options: CacheOptions,
        _ loader: @escaping BatchLoader
    ) {
        let path = LoadPath(id, within: LoadPath.current)
        let fills = members.map { member in
            let alarm = self.watch(member.flight, member.key, member.hash, options)
            return BatchFill(fill: self.fill(member, options, loader), alarm: alarm)
        }
        self.service.launch {
            await LoadPath.$current.withValue(path) {
                await withTaskGroup(of: Void.self) { group in
                    group.addTask { await self.load(fills, options, loader) }
                    // As long as anybody waits for one of the keys, the load goes on.
                    await withDiscardingTaskGroup { waits in
                        for one in fills {
                            waits.addTask { await one.fill.flight.awaitEnd(one.fill.hold) }
                        }
                    }
                    group.cancelAll()
                }
            }
        }
    }

    /// One of the keys, as if it were loaded alone.
    private func fill(_ member: BatchMember, _ options: CacheOptions, _ loader: @escaping BatchLoader) -> Fill {
        Fill(
            flight: member.flight,
            key: member.key,
            hash: member.hash,
            options: options,
            stale: member.stale,
            isBackground: member.isBackground,
            deadline: self.service.clock.instant(of: member.flight.startedAt.after(options.hardDeadline)),
            loader: Self.alone(member.key, loader)
        )
    }

    /// Loads one of the keys alone.
    private static func alone(_ key: Key, _ loader: @escaping BatchLoader) -> Loader {
        { context in
            guard let value = try await loader([key], context)[key] else { throw NotFound() }
            return value
        }
    }
}
