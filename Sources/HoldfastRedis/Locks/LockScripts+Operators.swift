// SPDX-License-Identifier: Apache-2.0

extension LockScripts {
    /// KEYS: lock, record.
    ///
    /// Answers `{reached, holder…}`.
    package static let revoke = LockScript(
        arguments: 0,
        start + prelude + #"""
            lock.load(call('GET', lock.H))
            local value = lock.settle()
            local reached = 0
            if value and value == lock.id then
              lock.revoke = 1
              if lock.channel ~= '' then reached = math.max(math.min(lock.tell(lock.channel, 'r ' .. lock.id), 1), 0) end
            elseif lock.kind ~= '' then
              local all = call('HGETALL', lock.S)
              for i = 1, #all, 2 do
                local m, tok, from, rests, ok, _, prio, ch, own = string.match(all[i + 1], lock.HOLD)
                if m then
                  lock.put(all[i], m, tok, from, rests, ok, 1, prio, ch, own)
                  if ch ~= '' then reached = reached + math.max(math.min(lock.tell(ch, 'r ' .. all[i]), 1), 0) end
                end
              end
            end
            lock.save()
            return lock.describe({ reached }, value, 0)
            """#
    )

    /// KEYS: lock, record.
    ///
    /// ARGV: what the next token must reach, as for ``release``, or nothing.
    ///
    /// Answers the holders that were thrown out, or nothing.
    package static let force = LockScript(
        arguments: 0,
        start(floor: "(ARGV[1] or 0) + 0") + prelude + #"""
            lock.load(call('GET', lock.H))
            local value = lock.settle()
            local reply = lock.describe({}, value, 0)
            if value then
              if value == lock.id then
                lock.finish(lock.id, true)
                if lock.channel ~= '' then lock.tell(lock.channel, 'l ' .. lock.id) end
                if lock.accepted == 1 and lock.delay > 0 then lock.after(lock.ms, lock.delay) end
              elseif lock.kind ~= '' then
                local all = call('HGETALL', lock.S)
                for i = 1, #all, 2 do
                  local _, _, _, rests, ok, _, _, ch = string.match(all[i + 1], lock.HOLD)
                  if ok == '1' and rests ~= '0' then lock.after(lock.ms, rests) end
                  lock.finish(all[i], true)
                  -- The record remembers the last 16 only.
                  if i + 32 < #all then
                    call('SET', lock.T .. all[i], '1', 'PX', 60000)
                    lock.tomb = lock.ms + 60000
                  end
                  if ch and ch ~= '' then lock.tell(ch, 'l ' .. all[i]) end
                end
                call('DEL', lock.S, lock.E)
              end
              lock.open()
              lock.vacate()
              lock.settle(true)
            end
            lock.save()
            return reply
            """#
    )

    /// KEYS: lock, record for each resource.
    ///
    /// Writes nothing.
    ///
    /// Answers for each `{rests for, {holder…}, {id, µs waited, owner, mode, priority, fairness, kept, …}}`.
    package static let status = LockScript(
        arguments: 0,
        start + prelude + look + #"""
            local answers = {}
            for i = 1, #KEYS / lock.STEP do
              lock.choose(i)
              local record, isOdd = look()
              -- Of what is odd, that the key is there.
              lock.load(isOdd and 'F' or record)
              answers[i] = lock.report(1000)
            end
            return answers
            """#
    )
}
