// SPDX-License-Identifier: Apache-2.0

import CZooKeeper
import Glibc
import Synchronization

/// Several changes as one request to the servers, and the memory that the client library writes their results to.
///
/// The library does not tell the number of a transaction, which is the fencing token of the nodes it makes. So one that
/// makes nodes has three changes more: it makes a node, writes to it, for which the library tells the number, and
/// deletes it, all of which nobody ever sees.
@safe final class Transaction: @unchecked Sendable {
    // The pointers are written here, before anybody else knows of this object, and by the library's thread until it
    // completes the call; they are read after that.

    /// What became of it.
    enum Outcome: Sendable {
        case done
        /// The servers refused it, and each change was sent alone.
        case split
        case failed
    }

    let changes: [Outbox.Change]
    private let operations: UnsafeMutablePointer<zoo_op_t>
    private let results: UnsafeMutablePointer<zoo_op_result_t>
    private let stat: UnsafeMutablePointer<Stat>
    private let count: Int
    /// All texts and buffers.
    private var memory: [UnsafeMutableRawPointer] = unsafe []
    private var paths: [UnsafeMutablePointer<CChar>?] = unsafe []
    private let outcome = Mutex<(value: Outcome?, early: [UInt: CallReply])>((nil, [:]))

    /// The node that a transaction makes and deletes.
    private static let probe = "hf-transaction"
    /// The digits of a node's number, a sign, and the end of the text.
    private static let numberLength = 12

    init(_ changes: [Outbox.Change], _ acl: UnsafePointer<ACL_vector>?) {
        self.changes = changes
        let parent = changes.lazy.compactMap(\.parent).first
        self.count = changes.count + (parent == nil ? 0 : 3)
        unsafe self.operations = .allocate(capacity: self.count)
        unsafe self.operations.initialize(repeating: zoo_op_t(), count: self.count)
        unsafe self.results = .allocate(capacity: self.count)
        unsafe self.results.initialize(repeating: zoo_op_result_t(), count: self.count)
        unsafe self.stat = .allocate(capacity: 1)
        unsafe self.stat.initialize(to: Stat())
        for (index, change) in changes.enumerated() {
            let path = unsafe self.text(change.path)
            guard case .create(let data, _, _) = change.kind else {
                unsafe zoo_delete_op_init(self.operations + index, path, -1)
                unsafe self.paths.append(nil)
                continue
            }
            let length = change.path.utf8.count + Self.numberLength
            let made = unsafe self.buffer(length).bindMemory(to: CChar.self, capacity: length)
            unsafe self.paths.append(made)
            let mode = ZOO_EPHEMERAL_SEQUENTIAL
            let bytes = unsafe self.bytes(data)
            unsafe zoo_create_op_init(
                self.operations + index,
                path,
                bytes,
                Int32(data.count),
                acl,
                mode,
                made,
                Int32(length)
            )
        }
        guard let parent else { return }
        let probe = unsafe self.text("\(parent)/\(Self.probe)")
        let next = unsafe self.operations + changes.count
        unsafe zoo_create_op_init(next, probe, nil, -1, acl, ZOO_EPHEMERAL, nil, 0)
        unsafe zoo_set_op_init(next + 1, probe, nil, -1, -1, self.stat)
        unsafe zoo_delete_op_init(next + 2, probe, -1)
    }

    deinit {
        for index in unsafe self.memory.indices { unsafe free(self.memory[index]) }
        unsafe self.operations.deallocate()
        unsafe self.results.deallocate()
        unsafe self.stat.deallocate()
    }

    private func buffer(_ length: Int) -> UnsafeMutableRawPointer {
        // Swift's own allocation ends the process when there is no memory, and so does this.
        guard let pointer = unsafe calloc(1, max(1, length)) else { fatalError("out of memory") }
        unsafe self.memory.append(pointer)
        return unsafe pointer
    }

    private func text(_ text: String) -> UnsafePointer<CChar> {
        let bytes = unsafe self.bytes(Array(text.utf8) + [0])
        return unsafe bytes
    }

    private func bytes(_ bytes: [UInt8]) -> UnsafePointer<CChar> {
        let pointer = unsafe self.buffer(bytes.count)
        unsafe bytes.withUnsafeBytes { source in
            if let base = source.baseAddress { unsafe pointer.copyMemory(from: base, byteCount: source.count) }
        }
        return unsafe UnsafePointer(pointer.bindMemory(to: CChar.self, capacity: max(1, bytes.count)))
    }

    /// Sends it.
    func submit(_ raw: OpaquePointer, _ context: UnsafeMutableRawPointer?) -> Int32 {
        unsafe zoo_amulti(raw, Int32(self.count), self.operations, self.results, voidCompletion, context)
    }

    /// The answer to one of the changes after all were made.
    func reply(at index: Int) -> CallReply {
        guard let path = unsafe self.paths[index] else { return CallReply(code: .ok) }
        let stat = unsafe self.stat.pointee
        return CallReply(
            code: .ok,
            path: unsafe String(cString: path),
            stat: NodeStat(
                created: stat.mzxid,
                modified: stat.mzxid,
                createdAt: stat.mtime,
                session: stat.ephemeralOwner,
                version: 0,
                children: 0
            )
        )
    }

    // MARK: - Its lists

    /// Notes what became of it.
    ///
    /// - Returns: The answers to lists that came before, by their numbers.
    func end(_ outcome: Outcome) -> [UInt: CallReply] {
        self.outcome.withLock { state in
            state.value = outcome
            defer { state.early = [:] }
            return state.early
        }
    }

    /// Takes the answer to a list.
    ///
    /// - Returns: Whether it is for the caller now.
    func listed(_ number: UInt, _ reply: CallReply) -> Bool {
        self.outcome.withLock { state in
            switch state.value {
            case .done, .failed: return true
            // Another list was asked for.
            case .split: return false
            case nil:
                state.early[number] = reply
                return false
            }
        }
    }
}
