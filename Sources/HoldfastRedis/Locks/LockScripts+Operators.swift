// SPDX-License-Identifier: Apache-2.0

extension LockScripts {
    /// KEYS: lock, record.
    ///
    /// Answers `{reached, holder…}`.
    package static let revoke = LockScript(
        arguments: 0,
        start + prelude + #"""
            load(call('GET', H))
            local value = settle()
            local reached = 0
            if value and value == id then
              revoke = 1
              if channel ~= '' then reached = math.max(math.min(tell(channel, 'r ' .. id), 1), 0) end
            elseif kind ~= '' then
              local all = call('HGETALL', S)
              for i = 1, #all, 2 do
                local m, tok, from, rests, ok, _, prio, ch, own = string.match(all[i + 1], HOLD)
                if m then
                  put(all[i], m, tok, from, rests, ok, 1, prio, ch, own)
                  if ch ~= '' then reached = reached + math.max(math.min(tell(ch, 'r ' .. all[i]), 1), 0) end
                end
              end
            end
            save()
            return describe({ reached }, value, 0)
            """#
    )

    /// KEYS: lock, record.
    ///
    /// Answers the holders that were thrown out, or nothing.
    package static let force = LockScript(
        arguments: 0,
        start + prelude + #"""
            load(call('GET', H))
            local value = settle()
            local reply = describe({}, value, 0)
            if value then
              if value == id then
                finish(id, true)
                if channel ~= '' then tell(channel, 'l ' .. id) end
                if accepted == 1 and delay > 0 then after(ms, delay) end
              elseif kind ~= '' then
                local all = call('HGETALL', S)
                for i = 1, #all, 2 do
                  local _, _, _, rests, ok, _, _, ch = string.match(all[i + 1], HOLD)
                  if ok == '1' and rests ~= '0' then after(ms, rests) end
                  finish(all[i], true)
                  -- The record remembers the last 16 only.
                  if i + 32 < #all then
                    call('SET', T .. all[i], '1', 'PX', 60000)
                    tomb = ms + 60000
                  end
                  if ch and ch ~= '' then tell(ch, 'l ' .. all[i]) end
                end
                call('DEL', S, E)
              end
              call('DEL', K)
              vacate()
              settle(true)
            end
            save()
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
        start + prelude + #"""
            local answers = {}
            for i = 1, #KEYS / STEP do
              name(KEYS[STEP * (i - 1) + 1], KEYS[STEP * (i - 1) + 2])
              load(call('GET', H))
              answers[i] = report(1000)
            end
            return answers
            """#
    )
}
