// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

extension LockScripts {
    /// What ``acquire`` does first for a request that goes to the end of a queue, behind an exclusive holder that is there:
    /// the record stays as it is, and the rules for the rest are not needed.
    ///
    /// On one server only. Needs `me`, `key` and `form`.
    static let lineUp = #"""
        if form == 71 and #KEYS == 2 and string.byte(ARGV[4]) == 113 then
          local value = call('GET', KEYS[1])
          local own, id, since, ok, tomb, due, past, whose = string.match(call('GET', key),
            '^G(%d+)|([^|]*)|(%d+)|%d+|%d+|%d+|(%d)|%d|%-?%d+|0|(%d+)|1|(%d+)|||0||[^|]*|([^|]*)|(.*)$')
          if value and id == value and id ~= me and not string.find(past, string.sub(me, 17), 1, true) then
            clock = clock or call('TIME')
            local us = clock[1] * 1000000 + clock[2]
            local ms = math.floor(us / 1000)
            local limit, acceptance, barges, holding = string.match(ARGV[4], '^q(%d+)|(%d+)|0|(%a)x:(%x*)$')
            local till = limit == '0' and 0 or ms + (limit or 0)
            local base = string.sub(key, 1, -2)
            if limit and (due == '0' or due + 0 > ms) and (till == 0 or due ~= '0' and till >= due + 0) and
              (tomb + 0 <= ms or call('EXISTS', base .. 't:' .. me) == 0) then
              local count = call('ZCARD', base .. 'q')
              if count > 0 and count < \#(Limits.maximumWaiters) and
                call('ZADD', base .. 'q', 'NX', string.format('%.0f', us), me) == 1 then
                local delays, mail, named = string.match(ARGV[3], '^|%d+|(%d+)|([^|]*)|(.*)$')
                call('HSET', base .. 'w', me, string.format('%.0f|%.0f|%s|%s|%s|0|x|%s|%s|%s|%s', us, till, ARGV[2],
                  acceptance, delays, barges, holding, mail, named))
                call('PEXPIRE', base .. 'q', '86400000')
                call('PEXPIRE', base .. 'w', '86400000')
                local position, left = call('ZRANK', base .. 'q', me), call('PTTL', KEYS[1])
                local wait = left < 0 and 1000 or left
                if mail == '' then wait = math.min(wait, 100) end
                return { 1, position, wait, string.sub(id, 1, 8), whose, own, us - since, left, 1 - ok, 'x' }
              end
            end
          end
        end
        """#

    /// For how long it is remembered what an owner waits for, in milliseconds: for many looks, each of which begins it anew.
    ///
    /// Owners are as many as requests, so nothing may stay for long after their waits are over.
    static let waitMemory = 600_000

    /// KEYS: lock, record of the resource that the owner waits for.
    ///
    /// ARGV: short id of the owner, prefix, most resources, most holders and waiters.
    ///
    /// Remembers that the owner waits for the resource, which costs nothing until somebody asks, and follows what is
    /// remembered of it and of those in its way; what is not true any more is forgotten. It reads keys that it was not
    /// given: right on one master, while a cluster would need a call for each owner and resource.
    ///
    /// Answers `name, status, …`, a status as in ``status``.
    package static let waits = LockScript(
        arguments: 4,
        start + prelude + look + #"""
            local first, prefix, most, budget = ARGV[1], ARGV[2], ARGV[3] + 0, ARGV[4] + 0
            -- The braces keep it apart from all names of locks.
            call('SADD', 'hf:o:{' .. first .. '}', lock.K)
            call('PEXPIRE', 'hf:o:{' .. first .. '}', \#(waitMemory))
            local answers, seen, owners, next = {}, {}, { [first] = true }, { first }
            while #next > 0 and budget > 0 do
              local who = table.remove(next)
              local index = 'hf:o:{' .. who .. '}'
              for _, key in ipairs(call('SMEMBERS', index)) do
                if not seen[key] and string.sub(key, 1, #prefix) == prefix and budget > 0 and #answers < 2 * most then
                  lock.name(key, 'hf:{' .. key .. '}:h')
                  local record, isOdd = look()
                  lock.load(isOdd and 'F' or record)
                  local found = lock.report(budget)
                  local inTheWay, waits = {}, false
                  for i = 2, #found[2], 7 do inTheWay[#inTheWay + 1] = string.match(found[2][i], '^[^\t]*') end
                  for i = 3, #found[3], 7 do
                    local one = string.match(found[3][i], '^[^\t]*')
                    inTheWay[#inTheWay + 1] = one
                    if one == who then waits = true end
                  end
                  budget = budget - #inTheWay - 1
                  -- Past the limit it cannot be told who waits: then what was remembered counts.
                  if waits or budget <= 0 then
                    seen[key] = true
                    answers[#answers + 1] = key
                    answers[#answers + 1] = found
                    for _, one in ipairs(inTheWay) do
                      if one ~= '' and not owners[one] then
                        owners[one] = true
                        next[#next + 1] = one
                      end
                    end
                  else
                    call('SREM', index, key)
                  end
                end
              end
            end
            return answers
            """#
    )
}
