// SPDX-License-Identifier: Apache-2.0

import CZooKeeper
import Glibc
import Synchronization

/// The answer to the first of two calls that are sent together.
final class FirstReply: Sendable {
    private let value = Mutex<CallReply?>(nil)

    func put(_ reply: CallReply) { self.value.withLock { $0 = reply } }

    /// The library answers in order, so the first is there before the second; a call that was not sent is not.
    func take() -> CallReply { self.value.withLock { $0 } ?? CallReply(code: .late) }
}

/// One handle of the C library, which is one session with the servers: the only place that touches the pointer.
///
/// Calls are submitted under a lock, so that none can meet a closed handle and two that belong together are sent
/// together. ``open(_:)`` and ``close()`` may block (they resolve names, or wait for the server to say goodbye) and
/// are for a thread of our own. Closing happens once.
final class Handle: Sendable {
    /// What a node is.
    enum Kind: Sendable {
        case persistent
        case container
        case ephemeral
        case ephemeralSequential
    }

    @safe fileprivate struct Pointer: @unchecked Sendable {
        // The library's handle may be used from any thread; this room uses it only under the lock.
        let raw: OpaquePointer
    }

    struct State: Sendable {
        fileprivate var pointer: Pointer?
        var outbox = Outbox()
    }

    private let inner = Mutex(State())
    let table = CallbackTable.shared
    private let usesCreatorACL: Bool
    /// What the library knows this handle by.
    let number: UInt

    /// Makes a handle that is not open.
    ///
    /// - Parameters:
    ///   - usesCreatorACL: Whether new nodes are for the creator's user only, or for everybody.
    ///   - handler: Called with changes of state, on the library's thread.
    init(usesCreatorACL: Bool, _ handler: @escaping @Sendable (CallbackTable.SessionEvent) -> Void) {
        self.usesCreatorACL = usesCreatorACL
        self.number = CallbackTable.shared.addHandle(handler)
    }

    // MARK: - Its life

    /// Starts to connect; the handler is told when that is done.
    ///
    /// - Parameters:
    ///   - hosts: `host:port` pairs with commas between them.
    ///   - timeout: The session timeout to ask for, in milliseconds.
    ///   - scheme: How to authenticate.
    ///   - credentials: What the scheme wants, for `digest` `user:password`.
    /// - Returns: `nil`, or the system's error number: names that cannot be resolved, no memory, no threads.
    func open(hosts: String, timeout: Int32, scheme: String, credentials: String?) -> Int32? {
        // Whoever hears of the connection before this returns waits for the lock for a moment. Names are resolved here,
        // which may take long; so nobody else may wait for the lock before there is a connection.
        self.inner.withLock { inner in
            guard
                let raw = unsafe zookeeper_init2(
                    hosts,
                    sessionWatcher,
                    timeout,
                    nil,
                    context(self.number),
                    Int32(ZOO_NO_LOG_CLIENTENV),
                    logLine
                )
            else { return errno }
            inner.pointer = unsafe Pointer(raw: raw)
            // Unless told otherwise the library resolves the names each time that it looks at its socket, which is a third
            // of its work; it still does when it connects.
            _ = unsafe zoo_set_servers_resolution_delay(raw, -1)
            if let credentials {
                // A refusal arrives as a change of the handle's state.
                _ = unsafe zoo_add_auth(raw, scheme, credentials, Int32(credentials.utf8.count), nil, nil)
            }
            return nil
        }
    }

    /// Closes the handle, and ends all calls that the library did not complete.
    ///
    /// Blocks for up to about two seconds. May be called again.
    func close() {
        let pointer = self.inner.withLock { inner in
            defer { inner.pointer = nil }
            // What was not sent is ended with all other calls.
            inner.outbox = Outbox()
            return inner.pointer
        }
        if let pointer { _ = unsafe zookeeper_close(pointer.raw) }
        self.table.close(self.number)
    }

    /// The session's number, a credential, and its timeout in milliseconds.
    var session: (id: Int64, timeout: Int32)? {
        self.inner.withLock { inner in
            guard let raw = unsafe inner.pointer?.raw, let client = unsafe zoo_client_id(raw) else { return nil }
            return (unsafe client.pointee.client_id, unsafe zoo_recv_timeout(raw))
        }
    }

    /// What the library says of the connection at this moment; `nil` when the handle is not open, or in use.
    ///
    /// Never waits: who asks keeps time.
    var stateUnlessBusy: Int32? {
        self.inner.withLockIfAvailable { inner in unsafe (inner.pointer?.raw).map { unsafe zoo_state($0) } } ?? nil
    }

    /// What the library says of the connection at this moment, or `nil` when the handle is not open.
    var state: Int32? {
        self.inner.withLock { inner in unsafe (inner.pointer?.raw).map { unsafe zoo_state($0) } }
    }

    // MARK: - Calls

    /// How a call is answered, and by when.
    struct Terms: Sendable {
        @Moment private(set) var sentAt: ContinuousClock.Instant
        @Moment private(set) var deadline: ContinuousClock.Instant
        let done: @Sendable (CallReply) -> Void
    }

    /// Creates a node.
    func create(_ path: String, _ data: [UInt8], _ kind: Kind, _ terms: Terms) {
        unsafe self.send(terms, isNew: true) { unsafe self.submitCreate($0, path, data, kind, $1) }
    }

    /// Creates an ephemeral, sequential node and lists the children of its parent, with nothing of ours in between.
    ///
    /// Sent together with other changes when many are under way.
    func create(_ path: String, _ data: [UInt8], listing parent: String, _ first: Terms, _ second: Terms) {
        let made = self.call(first, reachesLeader: true, after: { [self] in self.answered(parent, $0) })
        // Whoever waits for both hears of the first before the second.
        guard let (one, two) = self.table.add(made, self.call(second, reachesLeader: false)) else {
            first.done(CallReply(code: .tooManyCalls))
            return second.done(CallReply(code: .tooManyCalls))
        }
        self.post(Outbox.Change(number: one, path: path, kind: .create(data: data, parent: parent, list: two)))
    }

    /// Lists the names of a node's children.
    ///
    /// - Parameters:
    ///   - path: The node.
    ///   - watch: The number of a watch on the list, or `nil`.
    ///   - terms: How to answer.
    func children(of path: String, watch: UInt? = nil, _ terms: Terms) {
        unsafe self.send(terms, reachesLeader: false) { raw, context in
            guard let watch else { return unsafe zoo_aget_children2(raw, path, 0, childrenCompletion, context) }
            return unsafe zoo_awget_children2(
                raw,
                path,
                nodeWatcher,
                HoldfastZooKeeper.context(watch),
                childrenCompletion,
                context
            )
        }
    }

    /// Reads a node.
    ///
    /// - Parameters:
    ///   - path: The node.
    ///   - watch: The number of a watch on the node, or `nil`; none is left on a node that does not exist.
    ///   - terms: How to answer.
    func get(_ path: String, watch: UInt? = nil, _ terms: Terms) {
        let watch = watch.flatMap { self.table.isPolled($0) ? nil : $0 }
        unsafe self.send(terms, reachesLeader: false) { raw, context in
            guard let watch else { return unsafe zoo_aget(raw, path, 0, dataCompletion, context) }
            return unsafe zoo_awget(
                raw,
                path,
                nodeWatcher,
                HoldfastZooKeeper.context(watch),
                dataCompletion,
                context
            )
        }
    }

    /// Writes a node's data if it has this version; -1 for any.
    func set(_ path: String, _ data: [UInt8], version: Int32, _ terms: Terms) {
        unsafe self.send(terms) { raw, context in
            unsafe data.withUnsafeBytes { bytes in
                unsafe zoo_aset(
                    raw,
                    path,
                    bytes.baseAddress?.assumingMemoryBound(to: CChar.self),
                    Int32(bytes.count),
                    version,
                    statCompletion,
                    context
                )
            }
        }
    }

    /// Deletes a node.
    ///
    /// Sent together with other changes when many are under way.
    func delete(_ path: String, _ terms: Terms) {
        guard let number = self.enter(terms, reachesLeader: true, after: { [self] in self.answered(nil, $0) }) else {
            return
        }
        self.post(Outbox.Change(number: number, path: path, kind: .delete))
    }

    /// Creates one node and deletes another, both or neither.
    func replace(_ old: String, by path: String, _ data: [UInt8], _ terms: Terms) {
        // The library writes here until it completes the call.
        let results = Results()
        unsafe self.send(terms, results) { raw, context in
            unsafe data.withUnsafeBytes { bytes in
                unsafe path.withCString { path in
                    unsafe old.withCString { old in
                        var operations = unsafe [zoo_op_t(), zoo_op_t()]
                        unsafe zoo_create_op_init(
                            &operations[0],
                            path,
                            bytes.baseAddress?.assumingMemoryBound(to: CChar.self),
                            Int32(bytes.count),
                            self.acl,
                            ZOO_EPHEMERAL,
                            nil,
                            0
                        )
                        unsafe zoo_delete_op_init(&operations[1], old, -1)
                        return unsafe zoo_amulti(raw, 2, operations, results.pointer, voidCompletion, context)
                    }
                }
            }
        }
    }

    /// Asks the leader for an answer: what was answered before is known to this session's server, and the session is
    /// alive for the ensemble.
    func sync(_ path: String, _ terms: Terms) {
        unsafe self.send(terms) { raw, context in unsafe zoo_async(raw, path, stringCompletion, context) }
    }

    /// Lists the names of a node's children when all is known that the leader has been asked for: also what was
    /// proposed and is not committed, such as a create whose answer was lost with another connection.
    func currentChildren(of path: String, _ terms: Terms) {
        let word = FirstReply()
        self.sync(path, Terms(sentAt: terms.sentAt, deadline: terms.deadline) { word.put($0) })
        let list = Terms(sentAt: terms.sentAt, deadline: terms.deadline) { reply in
            let code = word.take().code
            terms.done(code == .ok || code == .noNode ? reply : CallReply(code: code))
        }
        self.children(of: path, list)
    }

    /// Enters a watch on a node that is about to be set.
    ///
    /// - Parameters:
    ///   - path: The node.
    ///   - fire: Called once at most; told whether the node was deleted.
    /// - Returns: Its number.
    func addWatch(on path: String, _ fire: @escaping @Sendable (_ isDeleted: Bool) -> Void) -> UInt {
        // The library keeps each watch until it fires, and that may be never.
        self.table.addWatch(on: self.number, of: path, forget: { [weak self] in self?.forget($0, on: path) }, fire)
    }

    /// Has the library forget a watch; the server keeps one for the session, if there are any.
    private func forget(_ watch: UInt, on path: String) {
        self.inner.withLock { inner in
            guard let raw = unsafe inner.pointer?.raw else { return }
            // The last argument says that the server is not asked, so that nothing is waited for.
            _ = unsafe zoo_remove_watches(raw, path, ZWATCHTYPE_DATA, nodeWatcher, context(watch), 1)
        }
    }

    // MARK: - Sending

    var acl: UnsafePointer<ACL_vector>? {
        unsafe self.usesCreatorACL ? hf_zk_acl_creator() : hf_zk_acl_open()
    }

    func submitCreate(
        _ raw: OpaquePointer,
        _ path: String,
        _ data: [UInt8],
        _ kind: Kind,
        _ context: UnsafeMutableRawPointer?
    ) -> Int32 {
        let mode =
            switch kind {
            case .persistent: ZOO_PERSISTENT
            case .container: ZOO_CONTAINER
            case .ephemeral: ZOO_EPHEMERAL
            case .ephemeralSequential: ZOO_EPHEMERAL_SEQUENTIAL
            }
        return unsafe data.withUnsafeBytes { bytes in
            unsafe zoo_acreate2(
                raw,
                path,
                bytes.baseAddress?.assumingMemoryBound(to: CChar.self),
                Int32(bytes.count),
                self.acl,
                mode,
                nodeCompletion,
                context
            )
        }
    }

    private func call(
        _ terms: Terms,
        reachesLeader: Bool,
        _ results: Results? = nil,
        after: (@Sendable (CallReply) -> Void)? = nil
    ) -> CallbackTable.Call {
        CallbackTable.Call(
            handle: self.number,
            sentAt: terms.sentAt,
            reachesLeader: reachesLeader,
            deadline: terms.deadline,
            done: terms.done,
            free: results.map { results in { @Sendable in results.free() } },
            after: after
        )
    }

    /// Enters a call; when there are too many, ends it.
    private func enter(
        _ terms: Terms,
        reachesLeader: Bool,
        isNew: Bool = false,
        _ results: Results? = nil,
        after: (@Sendable (CallReply) -> Void)? = nil
    ) -> UInt? {
        let call = self.call(terms, reachesLeader: reachesLeader, results, after: after)
        let number = self.table.add(call, isNew: isNew)
        if number == nil {
            results?.free()
            terms.done(CallReply(code: .tooManyCalls))
        }
        return number
    }

    private func send(
        _ terms: Terms,
        _ results: Results? = nil,
        reachesLeader: Bool = true,
        isNew: Bool = false,
        _ submit: (OpaquePointer, UnsafeMutableRawPointer?) -> Int32
    ) {
        guard let number = self.enter(terms, reachesLeader: reachesLeader, isNew: isNew, results) else { return }
        let failed = unsafe self.locked { raw, outbox in
            // The servers see all calls in the order in which they were made.
            var failed = unsafe self.flush(&outbox, raw, isUrgent: true)
            let code = unsafe submit(raw, context(number))
            if code != ServerCode.ok.rawValue { failed.append((number, code)) }
            return failed
        }
        self.settle(failed ?? [(number, ServerCode.notConnected.rawValue)])
    }

    /// Works with the library's handle, if it is open.
    func locked<Result>(_ work: (OpaquePointer, inout Outbox) -> Result) -> Result? {
        self.inner.withLock { inner in
            guard let raw = unsafe inner.pointer?.raw else { return nil }
            return unsafe work(raw, &inner.outbox)
        }
    }

    /// A call that the library did not take is never completed by it.
    func settle(_ calls: [(number: UInt, code: Int32)]) {
        for (number, code) in calls where code != ServerCode.ok.rawValue {
            self.table.fail(number, ServerCode(rawValue: code))
        }
    }

    /// Where the library writes the results of a transaction that we do not need: the code says all.
    @safe private struct Results: @unchecked Sendable {
        // Written by the library's thread only, and freed after that.
        let pointer: UnsafeMutablePointer<zoo_op_result_t>

        init() {
            unsafe self.pointer = .allocate(capacity: 2)
            unsafe self.pointer.initialize(repeating: zoo_op_result_t(), count: 2)
        }

        func free() { unsafe self.pointer.deallocate() }
    }
}
