// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import Testing

/// LRU, FIFO and SIEVE as plainly as they can be written: an array, young to old.
private struct NaiveCache {
    enum Kind {
        case lru
        case fifo
        case sieve
    }

    private struct Item {
        let key: UInt64
        let size: Int
        var isVisited = false
    }

    let kind: Kind
    let capacity: Int
    private(set) var misses = 0
    private var items: [Item] = []
    private var hand: UInt64?

    init(kind: Kind, capacity: Int) {
        self.kind = kind
        self.capacity = capacity
    }

    mutating func access(_ request: TraceRequest) {
        if let index = self.items.firstIndex(where: { $0.key == request.key }) {
            switch self.kind {
            case .lru: self.items.insert(self.items.remove(at: index), at: 0)
            case .fifo: break
            case .sieve: self.items[index].isVisited = true
            }
            return
        }
        self.misses += 1
        guard request.size <= self.capacity else { return }
        while self.items.map(\.size).reduce(0, +) + request.size > self.capacity { self.evict() }
        self.items.insert(Item(key: request.key, size: request.size), at: 0)
    }

    private mutating func evict() {
        guard self.kind == .sieve else {
            self.items.removeLast()
            return
        }
        var index = self.items.firstIndex { $0.key == self.hand } ?? self.items.count - 1
        while self.items[index].isVisited {
            self.items[index].isVisited = false
            index = index > 0 ? index - 1 : self.items.count - 1
        }
        self.hand = index > 0 ? self.items[index - 1].key : nil
        self.items.remove(at: index)
    }
}

@Suite("Exact miss counts")
struct ExactMissCountTests {
    @Test(arguments: [1, 2, 3])
    func lruFIFOAndSIEVEMissWhatTheNaiveOnesMiss(seed: UInt64) {
        let requests = MadeTrace.sized(4000, keys: 300, seed: seed)
        let kinds: [(TracePolicy, NaiveCache.Kind)] = [(.lru, .lru), (.fifo, .fifo), (.sieve, .sieve)]
        for (policy, kind) in kinds {
            for capacity in [900, 3000, 10_000] {
                var naive = NaiveCache(kind: kind, capacity: capacity)
                for request in requests { naive.access(request) }
                let hits = policy.hits(requests, capacity: capacity, isInBytes: true)
                #expect(requests.count - hits == naive.misses, "\(policy) at \(capacity)")
            }
        }
    }

    @Test(.enabled(if: PublicTrace.directory != nil, PublicTrace.hint))
    func lruFIFOAndSIEVEMissWhatLibCacheSimMisses() throws {
        let name = "libcachesim-cloudphysics.oracleGeneral.bin.xz"
        let requests = try PublicTrace.read(name, .oracle)
        #expect(requests.count == 113_872)
        let expected: [(TracePolicy, [Int])] = [
            (.lru, [93374, 89783, 83572, 81722, 72494, 72104, 71972, 71704]),
            (.fifo, [93403, 89386, 84387, 84025, 72498, 72228, 72182, 72140]),
            (.sieve, [91699, 86720, 78578, 76707, 69945, 66221, 64445, 64376]),
        ]
        for (policy, misses) in expected {
            let counted = (1...8).map { part in
                requests.count - policy.hits(requests, capacity: part * 128 << 20, isInBytes: true)
            }
            #expect(counted == misses, "\(policy)")
        }
    }
}
