// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import Glibc
import Holdfast
import HoldfastCore

/// `holdfast acquire`.
package struct AcquireCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "acquire",
        abstract: "Take a lock for a script, which renews and releases it itself.",
        discussion: """
            holdfast acquire nightly --lease 5m --grant /run/me/grant
            … holdfast renew --grant /run/me/grant …
            holdfast release --grant /run/me/grant

            Prints the grant as JSON, or writes it to a file that only you can read. Whoever has the grant can release \
            the lock: keep it like a password. Nobody renews the lock but you: without `holdfast renew` it ends with \
            its lease. `holdfast run` is simpler and safer where it fits.
            """
    )

    @Argument(help: LockOptions.nameHelp) var name: String
    @OptionGroup var lock: LockOptions
    @OptionGroup var storage: StoreOptions
    @Option(name: .long, help: ArgumentHelp("A file to write the grant to, or - for stdout.", valueName: "file"))
    var grant = "-"

    /// Makes the command, for the parser.
    package init() {}

    /// Acquires.
    package func run() async throws {
        let (lock, resource) = (self.lock, try Resource(self.name))
        try self.storage.refuseMemory()
        try self.storage.refuseSessions()
        let inbox = SignalInbox()
        let file = self.grant
        var configuration = LockServiceConfiguration()
        configuration.outageLimit = lock.outageLimit
        try await self.storage.withService(configuration: configuration) { service, _ in
            let lease = try await Self.acquire(lock, resource, on: service, inbox)
            do {
                let grant = try GrantSource.encode(lease.grant)
                if file == "-" { try Output.text(grant) } else { try SecretFile.write(grant, to: file) }
                _ = try await lease.detach()
            } catch {
                _ = await lease.release()
                throw error
            }
        }
    }

    private static func acquire(
        _ lock: LockOptions,
        _ resource: Resource,
        on service: LockService,
        _ inbox: SignalInbox
    ) async throws -> Lease {
        do {
            let lease = try await inbox.cancelling {
                try await service.acquire(
                    resource,
                    mode: lock.mode,
                    lease: lock.lease,
                    waitingAtMost: lock.wait,
                    priority: lock.priority,
                    fairness: lock.fairness,
                    lockDelay: lock.lockDelay,
                    label: lock.label
                )
            }
            guard let signal = inbox.received else { return lease }
            _ = await lease.release()
            throw CommandFailure(ExitStatus.signalled(signal))
        } catch is CancellationError {
            throw CommandFailure(ExitStatus.signalled(inbox.received ?? SIGINT))
        } catch let error as LockError where error.code == .timeout {
            throw lock.notAcquired([resource.name], error)
        }
    }
}

/// `holdfast renew`.
package struct RenewCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "renew",
        abstract: "Renew a lock that `holdfast acquire` took.",
        discussion: """
            holdfast renew --grant /run/me/grant || exit

            Exits 76 when it is not held any more: stop what you do. Renew at a third of the lease.
            """
    )

    @OptionGroup var source: GrantSource
    @OptionGroup var storage: StoreOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Renews.
    package func run() async throws {
        let grant = try self.source.read()
        let renewed = try await self.storage.withService { service, _ in
            try await service.resume(grant).detach()
        }
        // Only what the grant says of its end is new: the old text stays good.
        if let file = self.source.file {
            try SecretFile.write(try GrantSource.encode(renewed), to: file)
        }
    }
}

/// `holdfast release`.
package struct ReleaseCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "release",
        abstract: "Give back a lock that `holdfast acquire` took.",
        discussion: """
            holdfast release --grant /run/me/grant
            holdfast release --grant - < grant

            Exits 76 when it was not held any more, by this grant in this store. A grant file is removed once the lock \
            is released.
            """
    )

    @OptionGroup var source: GrantSource
    @OptionGroup var storage: StoreOptions

    /// Makes the command, for the parser.
    package init() {}

    /// Releases.
    package func run() async throws {
        let grant = try self.source.read()
        let reply = try await self.storage.withService { _, store in try await store.release(grant.key) }
        switch reply {
        case .released: if let file = self.source.file { SecretFile.remove(file) }
        case .alreadyLost:
            let place = StoreFactory.name(of: try self.storage.url())
            throw CommandFailure(
                ExitStatus.lost,
                "\(place) does not hold this lock any more; another may have run meanwhile (or the store is another)"
            )
        case .unknown:
            throw CommandFailure(ExitStatus.unavailable, "the store did not answer; the lock ends with its lease")
        }
    }
}
