// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
package import Holdfast
package import HoldfastCore

/// Which store a command works on.
package struct StoreOptions: ParsableArguments {
    /// The store's URL.
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Where locks live: \(StoreURL.forms). Default: $HOLDFAST_STORE, else a file of yours on this machine.",
            discussion: "A password does not belong here, where `ps` shows it: use $HOLDFAST_STORE or --store-file.",
            valueName: "url"
        )
    )
    package var store: String?

    /// A file with the store's URL.
    @Option(
        name: .long,
        help: ArgumentHelp("A file, readable only by you, that holds the store's URL.", valueName: "file")
    )
    package var storeFile: String?

    /// Makes options without values, for the parser.
    package init() {}

    /// The URL that was asked for, by flag, file or environment.
    ///
    /// - Throws: ``CommandFailure`` when it cannot be read or understood.
    package func url(environment: Environment = .process) throws -> StoreURL {
        guard self.store == nil || self.storeFile == nil else {
            throw CommandFailure(ExitStatus.configuration, "--store and --store-file exclude each other; give one")
        }
        do {
            if let store = self.store { return try StoreURL(store) }
            if let file = self.storeFile { return try StoreURL(try SecretFile.line(of: file)) }
            if let store = environment["HOLDFAST_STORE"], !store.isEmpty { return try StoreURL(store) }
        } catch let problem as StoreURL.Problem {
            throw CommandFailure(ExitStatus.configuration, problem.description)
        }
        return .sqlite(path: nil)
    }

    /// Refuses a store that ends with this process, for commands whose effect must not.
    ///
    /// - Throws: ``CommandFailure``.
    package func refuseMemory() throws {
        guard try self.url() == .memory else { return }
        throw CommandFailure(ExitStatus.configuration, "a lock in memory: ends with this command; use another --store")
    }

    /// Refuses a store whose locks end with the process that took them, for commands that hand a lock on.
    ///
    /// - Throws: ``CommandFailure``.
    package func refuseSessions() throws {
        guard case .zookeeper = try self.url() else { return }
        throw CommandFailure(
            ExitStatus.configuration,
            "a lock in ZooKeeper ends with the process that took it, which would be this command; use `holdfast run`"
        )
    }

    /// Makes the store.
    package func open() throws -> any LockStore { try StoreFactory.make(self.url()) }

    /// Runs a service on the store beside some work.
    package func withService<Result: Sendable>(
        configuration: LockServiceConfiguration = LockServiceConfiguration(),
        observer: (any LockObserver)? = nil,
        _ work: @escaping @Sendable (LockService, any LockStore) async throws -> Result
    ) async throws -> Result {
        let store = try self.open()
        return try await withLockService(store: store, configuration: configuration, observer: observer) {
            try await work($0, store)
        }
    }
}
