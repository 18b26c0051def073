// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// What one of several masters is asked besides, when a majority decides.
extension LockScripts {
    /// KEYS: lock, record.
    ///
    /// ARGV: as those of ``acquire``, and which try of the request it was.
    ///
    /// Gives up what a request holds, which was no majority, and puts it into the queue; whoever waits is told. The request
    /// is not over: it may be granted later, and a copy of this that comes only then must not take that away.
    ///
    /// Answers 1 it held something, 0 it did not, is over, or was tried again within the last minute.
    package static let yield = LockScript(
        arguments: 5,
        start + prelude + #"""
            local me = ARGV[1]
            local tries = call('GET', lock.T .. me .. ':y')
            if tries and tries + 0 > ARGV[5] + 0 then return 0 end
            lock.load(call('GET', lock.H))
            if lock.isFinished(me) or (lock.tomb > lock.ms and call('EXISTS', lock.T .. me) == 1) then return 0 end
            \#(wish)
            lock.asker = me
            local value = lock.settle()
            local held = 0
            if lock.kind ~= '' and call('HGET', lock.S, me) then
              lock.leave(me)
              held = 1
            elseif value == me then
              call('DEL', lock.K)
              lock.vacate()
              held = 1
            end
            if not call('ZRANK', lock.Q, me) and (lock.queue == 0 or call('ZCARD', lock.Q) < \#(Limits.maximumWaiters)) then
              enqueue()
            end
            if lock.queue == 1 then
              call('PEXPIRE', lock.Q, lock.DAY)
              call('PEXPIRE', lock.W, lock.DAY)
            end
            if held == 1 then lock.settle(true) end
            lock.save()
            return held
            """#
    )

    /// KEYS: lock, record.
    ///
    /// ARGV: id, token.
    ///
    /// Lifts the token of a holder, and with it all that come later, to what another master gave.
    ///
    /// Answers 1 done, 0 it does not hold.
    package static let lift = LockScript(
        arguments: 2,
        start + prelude + #"""
            local me, wanted = ARGV[1], ARGV[2] + 0
            lock.load(call('GET', lock.H))
            local value = lock.settle()
            local mine = lock.kind ~= '' and call('HGET', lock.S, me)
            if mine then
              local m, tok, from, rests, ok, asked, prio, ch, own = string.match(mine, lock.HOLD)
              lock.put(me, m, math.max(tok + 0, wanted), from, rests, ok, asked, prio, ch, own)
            elseif value ~= me or lock.id ~= me then
              lock.save()
              return 0
            end
            lock.token = math.max(lock.token, wanted)
            lock.save()
            return 1
            """#
    )
}
