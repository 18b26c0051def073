// SPDX-License-Identifier: Apache-2.0

/// What a worker of the demo did; one line of the log that all workers append to.
package struct DemoEvent: Sendable, Hashable {
    /// A kind of event.
    package enum Kind: String, Sendable, Hashable {
        /// The lock is held and a rebuild begins. The value is the end of the lease in boot time.
        case begin
        /// The cache took the rebuild.
        case wrote
        /// The cache refused the rebuild since it has seen a newer token.
        case refused
        /// The work under the lock is over.
        case leave
        /// The lock was given back or lost. The value is the end of its lease as it was known last, in boot time.
        case ended
        /// How many requests this worker has served so far.
        case requests
    }

    /// When, in boot time.
    package let time: Int64
    /// The worker's number.
    package let worker: Int
    /// What happened.
    package let kind: Kind
    /// The fencing token of the lock; 0 for ``Kind/requests``.
    package let token: UInt64
    /// Which rebuild it is about.
    package let generation: Int64
    /// Depends on the kind.
    package let value: Int64

    /// Makes an event.
    package init(time: Int64, worker: Int, kind: Kind, token: UInt64 = 0, generation: Int64 = 0, value: Int64 = 0) {
        self.time = time
        self.worker = worker
        self.kind = kind
        self.token = token
        self.generation = generation
        self.value = value
    }

    /// The event as a line, without its end.
    package var line: String {
        "\(self.time) \(self.worker) \(self.kind.rawValue) \(self.token) \(self.generation) \(self.value)"
    }

    /// Reads what ``line`` gives.
    package init?(line: some StringProtocol) {
        let fields = line.split(separator: " ")
        guard fields.count == 6, let time = Int64(fields[0]), let worker = Int(fields[1]),
            let kind = Kind(rawValue: String(fields[2])), let token = UInt64(fields[3]),
            let generation = Int64(fields[4]), let value = Int64(fields[5])
        else { return nil }
        self.init(time: time, worker: worker, kind: kind, token: token, generation: generation, value: value)
    }
}
