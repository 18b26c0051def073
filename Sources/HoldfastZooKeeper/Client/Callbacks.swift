// SPDX-License-Identifier: Apache-2.0

import CZooKeeper

// What the C library calls, on its own threads. Each copies what it gets into Swift values and goes by its number.

/// A number of ``CallbackTable`` as the library carries it; never a pointer to anything.
func context(_ number: UInt) -> UnsafeMutableRawPointer? { unsafe UnsafeMutableRawPointer(bitPattern: number) }

private func complete(_ context: UnsafeRawPointer?, _ reply: CallReply) {
    CallbackTable.shared.complete(UInt(bitPattern: context), reply)
}

let voidCompletion: @convention(c) (Int32, UnsafeRawPointer?) -> Void = { code, context in
    unsafe complete(context, CallReply(code: ServerCode(rawValue: code)))
}

let statCompletion: @convention(c) (Int32, UnsafePointer<Stat>?, UnsafeRawPointer?) -> Void = { code, stat, context in
    let stat = unsafe stat.map { unsafe NodeStat($0.pointee) }
    unsafe complete(context, CallReply(code: ServerCode(rawValue: code), stat: stat))
}

let stringCompletion: @convention(c) (Int32, UnsafePointer<CChar>?, UnsafeRawPointer?) -> Void = { code, _, context in
    unsafe complete(context, CallReply(code: ServerCode(rawValue: code)))
}

let nodeCompletion: @convention(c) (Int32, UnsafePointer<CChar>?, UnsafePointer<Stat>?, UnsafeRawPointer?) -> Void = {
    code,
    path,
    stat,
    context in
    let path = unsafe path.map { unsafe String(cString: $0) } ?? ""
    let stat = unsafe stat.map { unsafe NodeStat($0.pointee) }
    unsafe complete(context, CallReply(code: ServerCode(rawValue: code), path: path, stat: stat))
}

let dataCompletion:
    @convention(c) (Int32, UnsafePointer<CChar>?, Int32, UnsafePointer<Stat>?, UnsafeRawPointer?) -> Void = {
        code,
        value,
        count,
        stat,
        context in
        var data: [UInt8] = []
        // A node without data has the length -1.
        if let value = unsafe value, count > 0 {
            unsafe data = Array(UnsafeRawBufferPointer(start: value, count: Int(count)))
        }
        let stat = unsafe stat.map { unsafe NodeStat($0.pointee) }
        unsafe complete(context, CallReply(code: ServerCode(rawValue: code), stat: stat, data: data))
    }

let childrenCompletion:
    @convention(c) (Int32, UnsafePointer<String_vector>?, UnsafePointer<Stat>?, UnsafeRawPointer?) -> Void = {
        code,
        names,
        stat,
        context in
        var children: [String] = []
        if let vector = unsafe names?.pointee, unsafe vector.count > 0, let first = unsafe vector.data {
            let count = unsafe Int(vector.count)
            children.reserveCapacity(count)
            for index in 0..<count {
                if let name = unsafe first[index] { unsafe children.append(String(cString: name)) }
            }
        }
        let stat = unsafe stat.map { unsafe NodeStat($0.pointee) }
        unsafe complete(context, CallReply(code: ServerCode(rawValue: code), stat: stat, children: children))
    }

/// The watch of one node.
///
/// Changes of the session's state come here too, each time, and are not its last call.
let nodeWatcher:
    @convention(c) (OpaquePointer?, Int32, Int32, UnsafePointer<CChar>?, UnsafeMutableRawPointer?) -> Void = {
        _,
        type,
        _,
        _,
        context in
        guard type != ZOO_SESSION_EVENT else { return }
        CallbackTable.shared.fire(UInt(bitPattern: context), isDeleted: type == ZOO_DELETED_EVENT)
    }

/// The watch of a session.
let sessionWatcher:
    @convention(c) (OpaquePointer?, Int32, Int32, UnsafePointer<CChar>?, UnsafeMutableRawPointer?) -> Void = {
        _,
        type,
        state,
        _,
        context in
        guard type == ZOO_SESSION_EVENT else { return }
        CallbackTable.shared.changed(UInt(bitPattern: context), to: state)
    }

let logLine: @convention(c) (UnsafePointer<CChar>?) -> Void = { line in
    if let line = unsafe line { unsafe ClientLog.shared.take(String(cString: line)) }
}
