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
    ///
    /// From one exclusive holder to the next it does not get as far as the rules for the rest, and makes nine calls to Redis.
    package static let handOver = LockScript(
        arguments: 2,
        start + #"""
            local me, here = ARGV[1], ARGV[2]
            local both = call('MGET', KEYS[1], KEYS[2])
            if both[1] == me and both[2] then
              local token, id, tomb, due, ended = string.match(both[2],
                '^G(%d+)|([^|]*)|%d+|%d+|%d+|%d+|%d|%d|%-?%d+|0|(%d+)|1|(%d+)|||0||[^|]*|([^|]*)|')
              local queue = string.sub(KEYS[2], 1, -2) .. 'q'
              local first = id == me and call('ZRANGE', queue, 0, 1) or {}
              local head, following = first[1], first[2]
              if head then
                local waiters = string.sub(KEYS[2], 1, -2) .. 'w'
                local known = call('HMGET', waiters, head, following or head)
                local till, leased, acceptance, rests, prio, mail, named = string.match(known[1] or '',
                  '^%d+|(%d+)|(%d+)|(%d+)|(%d+)|(%-?%d+)|x|d|%x*|([^|]*)|(.*)$')
                clock = call('TIME')
                local us = clock[1] * 1000000 + clock[2]
                local ms = math.floor(us / 1000)
                if mail == here and (till == '0' or till + 0 > ms) and (due == '0' or due + 0 > ms) then
                  -- First what a server without memory lets pass, and with it the others.
                  call('ZREM', queue, head)
                  call('HDEL', waiters, head)
                  call('SET', KEYS[1], head, 'PX', leased)
                  token = math.max(token + 1, us)
                  if not string.find(ended, string.sub(me, 17), 1, true) then
                    ended = string.sub(string.sub(me, 17) .. '.' .. ended, 1, 272)
                  end
                  local record = string.format('G%.0f|%s|%.0f|%.0f|%s|%s|1|0|%s|0|%s|%d|%s|||0||%s|%s|%s', token, head, us,
                    ms + leased, leased, rests, prio, tomb, following and 1 or 0, following and due or 0, mail, ended, named)
                  call('SET', KEYS[2], record, 'PX',
                    string.format('%.0f', 172800000 + math.max(0, math.ceil(token / 1000) - ms)))
                  if following then
                    local its = string.match(known[2] or '', '^%d+|%d+|%d+|%d+|%d+|%-?%d+|[^|]*|%a|%x*|([^|]*)|')
                    if its == here then return { 1, head, token, following, -acceptance } end
                    if its and its ~= '' then redis.pcall('PUBLISH', its, 'c ' .. following .. ' ' .. acceptance) end
                  end
                  return { 1, head, token }
                end
              end
            end

            """# + prelude + #"""
                lock.here = here
                function lock.say(who, number)
                  lock.said = lock.said or { 1 }
                  lock.said[#lock.said + 1] = who
                  lock.said[#lock.said + 1] = number
                end
                local value = call('GET', lock.K)

                """# + letGo
    )
}
