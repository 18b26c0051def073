// SPDX-License-Identifier: Apache-2.0

import Glibc
import HoldfastCommands
import HoldfastTesting
import Testing

@Suite("Bench of the cache", .timeLimit(.minutes(5)))
struct CacheBenchTests {
    /// A file, packed by the program of that name if there is one.
    private func file(_ name: String, _ bytes: [UInt8], in directory: TestDirectory, packedBy program: String?) throws
        -> String
    {
        let path = "\(directory.path)/\(name)"
        let file = try #require(fopen(path, "w"))
        #expect(fwrite(bytes, 1, bytes.count, file) == bytes.count)
        fclose(file)
        guard let program else { return path }
        let packed = "\(path).packed"
        // Not system(): it has the whole process ignore Ctrl-C meanwhile, and what other tests start with it.
        try #require(pclose(popen("\(program) -c '\(path)' > '\(packed)'", "r")) == 0)
        return packed
    }

    private func run(_ directory: TestDirectory, _ arguments: String...) async throws -> HoldfastProcess.Result {
        try await HoldfastProcess.run(["bench"] + arguments, in: directory)
    }

    @Test(
        "a trace is the same plain, by gzip and by xz, also when it is longer than a buffer",
        arguments: [nil, "gzip", "xz"]
    )
    func packed(program: String?) async throws {
        let directory = try TestDirectory()
        // Keys 0 to 49,999, twice over.
        let keys = (0..<100_000).map { UInt32($0 % 50_000) }
        let bytes = keys.flatMap { key in (0..<4).map { UInt8(truncatingIfNeeded: key >> (24 - 8 * $0)) } }
        let path = try self.file("trace", bytes, in: directory, packedBy: program)
        let result = try await self.run(
            directory,
            "hit-ratio",
            "--trace",
            path,
            "--format",
            "b32",
            "--capacity",
            "50000,1",
            "--policy",
            "lru"
        )
        #expect(result.status == 0)
        #expect(result.output.contains(#""capacity":50000,"requests":100000,"misses":50000,"hit_ratio":50.00"#))
        #expect(result.output.contains(#""capacity":1,"requests":100000,"misses":100000,"hit_ratio":0.00"#))
    }

    @Test("damaged and cut files are refused with what is wrong, by each way of packing", arguments: ["gzip", "xz"])
    func damaged(program: String) async throws {
        let directory = try TestDirectory()
        let bytes = (0..<40_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        let path = try self.file("trace", bytes, in: directory, packedBy: program)
        let whole = TestDirectory.bytes(of: path)
        var flipped = whole
        flipped[whole.count / 2] ^= 0x10
        for (name, broken) in [("cut", Array(whole.prefix(whole.count / 2))), ("flipped", flipped)] {
            let path = try self.file(name, broken, in: directory, packedBy: nil)
            let result = try await self.run(
                directory,
                "hit-ratio",
                "--trace",
                path,
                "--format",
                "b32",
                "--capacity",
                "10"
            )
            #expect(result.status == 78)
            #expect(result.errors.contains(name) && result.errors.split(separator: "\n").count == 1)
        }
    }

    @Test("wrong arguments are refused in one line")
    func refusals() async throws {
        let directory = try TestDirectory()
        let path = try self.file("trace", [1, 2, 3], in: directory, packedBy: nil)
        for arguments in [
            ["--trace", path, "--format", "b32", "--capacity", "10"],
            ["--trace", path, "--format", "arc", "--capacity", "10"],
            ["--trace", "\(path)-none", "--format", "arc", "--capacity", "10"],
            ["--trace", path, "--format", "lirs", "--capacity", "0"],
            ["--trace", path, "--format", "lirs", "--capacity", "10", "--bytes"],
        ] {
            let result = try await HoldfastProcess.run(["bench", "hit-ratio"] + arguments, in: directory)
            #expect(result.status == 78)
            #expect(result.errors.hasPrefix("holdfast: ") && result.errors.split(separator: "\n").count == 1)
        }
    }

    @Test("the memory of a cache is measured in the shape of the other measurements")
    func memory() async throws {
        let directory = try TestDirectory()
        let keys = (0..<1000).flatMap { (key: Int) -> [UInt8] in
            [UInt8(truncatingIfNeeded: key), UInt8(key >> 8), 0, 0]
        }
        let path = try self.file("keys", keys, in: directory, packedBy: nil)
        for workload in ["read100", "r75w25", "through"] {
            let result = try await self.run(
                directory,
                "--workload",
                workload,
                "--threads",
                "2",
                "--seconds",
                "0.2",
                "--keys",
                path
            )
            #expect(result.status == 0)
            #expect(result.output.contains(#""workload":"\#(workload) t2","ops_per_s":"#))
            #expect(result.output.contains(#""hit_ratio":1.0000"#))
        }
        for name in ["mutex-lru", "mutex-lru-flat"] {
            let peer = try await self.run(
                directory,
                "--workload",
                "through",
                "--peer",
                name,
                "--seconds",
                "0.2",
                "--keys",
                path
            )
            #expect(peer.status == 0)
            #expect(peer.output.contains(#""peer":"\#(name)""#) && peer.output.contains(#""hit_ratio":1.0000"#))
        }
    }

    @Test(arguments: [NodeLRU<Int, Int>(capacity: 3) as any BenchedMemory, FlatLRU(capacity: 3)])
    func thePeersForgetWhatWasUsedLongestAgo(memory: any BenchedMemory) {
        for key in 1...3 { memory.put(key, for: key) }
        #expect(memory.cached(1) == 1)
        memory.put(4, for: 4)
        #expect([1, 2, 3, 4].map { memory.cached($0) } == [1, nil, 3, 4])
        memory.put(30, for: 3)
        memory.put(5, for: 5)
        memory.put(6, for: 6)
        #expect([1, 3, 4, 5, 6].map { memory.cached($0) } == [nil, 30, nil, 5, 6])
    }
}
