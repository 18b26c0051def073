// SPDX-License-Identifier: Apache-2.0

import HoldfastCore
import HoldfastTesting

/// A lock table with a time, and shorthands for tests.
struct TableBench {
    var table = LockTable()
    var now: Timestamp = .zero
    var signals: [StoreSignal] = []
    private var generator = SeededGenerator(seed: 5)
    private var serial: UInt64 = 0

    mutating func request(
        _ resource: Resource,
        mode: LockMode = .exclusive,
        lease: Duration = .seconds(30),
        contention: LockRequest.Contention = .queue,
        waitLimit: Duration? = nil,
        acceptance: Duration = .seconds(1),
        lockDelay: Duration = .zero,
        priority: Int = 0
    ) -> LockRequest {
        self.serial += 1
        return LockRequest(
            id: RequestID(using: &self.generator),
            resource: resource,
            mode: mode,
            owner: OwnerID(process: .example, serial: self.serial),
            lease: lease,
            contention: contention,
            waitLimit: waitLimit,
            acceptance: acceptance,
            lockDelay: lockDelay,
            priority: priority
        )
    }

    mutating func acquire(_ request: LockRequest) throws(LockError) -> AcquireReply {
        try self.table.acquire(request, at: self.now, signals: &self.signals)
    }

    mutating func renew(_ request: LockRequest) -> RenewReply {
        self.table.renew(Renewal(key: request.key, lease: request.lease), at: self.now, signals: &self.signals)
    }

    mutating func convert(_ request: LockRequest, to mode: LockMode) -> ConvertReply {
        self.table.convert(Conversion(request.key, to: mode), at: self.now, signals: &self.signals)
    }

    func status(_ resource: Resource) -> ResourceStatus { self.table.status(of: resource, at: self.now) }

    mutating func pass(_ duration: Duration) { self.now = self.now.advanced(by: duration) }

    mutating func takeSignals() -> [StoreSignal] {
        defer { self.signals = [] }
        return self.signals
    }
}
