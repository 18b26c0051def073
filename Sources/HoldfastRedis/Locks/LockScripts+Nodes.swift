// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// What one of several masters is asked besides, when a majority decides.
extension LockScripts {
    /// KEYS: lock, record.
    ///
    /// ARGV: as those of ``acquire``.
    ///
    /// Gives up what a request holds, which was no majority, and puts it into the queue; whoever waits is told. The request
    /// is not over: it may be granted later.
    ///
    /// Answers 1 it held something, 0 it did not, or is over.
    package static let yield = LockScript(
        arguments: 4,
        start + prelude + #"""
            local me = ARGV[1]
            load(call('GET', H))
            if isFinished(me) or (tomb > ms and call('EXISTS', T .. me) == 1) then return 0 end
            \#(wish)
            asker = me
            local value = settle()
            local held = 0
            if kind ~= '' and call('HGET', S, me) then
              leave(me)
              held = 1
            elseif value == me then
              call('DEL', K)
              vacate()
              held = 1
            end
            if not call('ZRANK', Q, me) and (queue == 0 or call('ZCARD', Q) < \#(Limits.maximumWaiters)) then
              enqueue()
            end
            if queue == 1 then
              call('PEXPIRE', Q, DAY)
              call('PEXPIRE', W, DAY)
            end
            if held == 1 then settle(true) end
            save()
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
            load(call('GET', H))
            local value = settle()
            local mine = kind ~= '' and call('HGET', S, me)
            if mine then
              local m, tok, from, rests, ok, asked, prio, ch, own = string.match(mine, HOLD)
              put(me, m, math.max(tok + 0, wanted), from, rests, ok, asked, prio, ch, own)
            elseif value ~= me or id ~= me then
              save()
              return 0
            end
            token = math.max(token, wanted)
            save()
            return 1
            """#
    )
}
