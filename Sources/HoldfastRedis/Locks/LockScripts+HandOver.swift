// SPDX-License-Identifier: Apache-2.0

/// Letting go, and handing over within one store.
extension LockScripts {
    /// What ``release`` does that is not plain; ``handOver`` does all of it like this.
    ///
    /// Needs `me` and `value`, what the lock's key is.
    static let letGo = #"""
        lock.load(call('GET', lock.H))
        if value == me then
          lock.open()
          lock.finish(me)
          lock.vacate()
          if lock.rest > 0 or lock.queue == 1 then lock.settle(true) end
          lock.save()
          return lock.said or 1
        end
        local answer = lock.isReleased(me) and 2 or 0
        value = lock.settle()
        if lock.kind ~= '' and call('HGET', lock.S, me) then
          lock.leave(me)
          lock.finish(me)
          lock.promote(true)
          answer = 1
        elseif value == me and lock.id == me then
          -- It had waited to be exclusive, and only just became it.
          lock.open()
          lock.finish(me)
          lock.vacate()
          lock.settle(true)
          answer = 1
        end
        lock.save()
        if not lock.said then return answer end
        lock.said[1] = answer
        return lock.said
        """#

    /// KEYS: lock, record.
    ///
    /// ARGV: id, channel of the store that asks.
    ///
    /// Releases. Of those who are next, who waits by the same store and accepts unasked holds for its whole lease, and the
    /// reply says so instead of a message; all others are told as by ``release``. For one server that answers to all: the
    /// reply must reach the store, or all who wait by it ask again.
    ///
    /// Answers what ``release`` does; or, if the store has somebody to tell, `{that, id, token, …}`, and with the id of who
    /// is next after them, less than 0: after how many ms it should ask.
    package static let handOver = LockScript(
        arguments: 2,
        start + prelude + #"""
            local me = ARGV[1]
            lock.here = ARGV[2]
            function lock.say(who, number)
              lock.said = lock.said or { 1 }
              lock.said[#lock.said + 1] = who
              lock.said[#lock.said + 1] = number
            end
            local value = call('GET', lock.K)

            """# + letGo
    )
}
