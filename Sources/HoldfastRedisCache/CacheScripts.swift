// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import HoldfastRedis

/// A Lua script of the cache and how it is called.
struct CacheScript: Sendable {
    private let source: String
    private let hash: String

    init(_ source: String) {
        self.source = source
        self.hash = SHA1.hex(source)
    }

    /// Starts a command; so many arguments must follow.
    ///
    /// - Parameters:
    ///   - encoder: Where to write.
    ///   - keys: The keys, in one slot.
    ///   - arguments: How many arguments follow.
    ///   - isKnown: Whether the server is believed to know the script; if not, its text is sent along.
    func begin(_ encoder: inout CommandEncoder, keys: [String], arguments: Int, isKnown: Bool) {
        encoder.begin(3 + keys.count + arguments)
        encoder.part(isKnown ? "EVALSHA" : "EVAL")
        encoder.part(isKnown ? self.hash : self.source)
        encoder.part(Int64(keys.count))
        for key in keys { encoder.part(key) }
    }
}

/// The scripts of the cache: what has to be one step.
///
/// The server's clock decides. Versions and marks are times in µs at least, so they grow also when what they grew from is
/// gone; they fit the numbers of Lua until the year 2255.
enum CacheScripts {
    private static let d16 = String(repeating: "%d", count: 16)
    private static let d20 = String(repeating: "%d", count: 20)

    /// What all scripts begin with: the time, and errors that mean another type of key.
    private static let common = """
        local ZERO = '00000000000000000000'
        local HIGHEST = \(CacheRecord.highestVersion)
        local AHEAD = \(CacheRecord.furthestAhead)
        local time = redis.call('TIME')
        local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
        local function foreign(reply)
          return type(reply) == 'table' and string.find(reply.err, 'WRONGTYPE', 1, true)
        end

        """

    /// What is at the key of an entry; see ``CacheRecord``.
    ///
    /// Kinds: N nothing, F not ours or damaged, V, T, G as they are written; a G that has ended is a T.
    private static let look = """
        \(common)
        local function sum(text) return string.sub(redis.sha1hex(text), 1, 8) end
        local function sealed(text) return text .. ' ' .. sum(text) .. '\\n' end
        local function look(key)
          local head = redis.pcall('GETRANGE', key, 0, \(CacheRecord.longestHead - 1))
          local was = {kind = 'F', version = 0, text = '0000000000000000', token = ZERO, ground = '', rest = 0}
          if foreign(head) then return was end
          if type(head) == 'table' then return nil, head end
          if head == '' then
            was.kind = 'N'
            return was
          end
          local ends
          local text, kind, version, token, ground, check =
            string.match(head, '^(HFC2([VT]) (\(d16)) (\(d20)) (\(d16))) (%x+)\\n')
          if not text then
            text, version, token, ground, ends, check =
              string.match(head, '^(HFC2G (\(d16)) (\(d20)) (\(d16)) (\(d16))) (%x+)\\n')
            kind = 'G'
          end
          if not text or sum(text) ~= check then return was end
          if tonumber(version) > math.min(HIGHEST, now + AHEAD) then return was end
          if kind ~= 'V' then was.rest = redis.call('PTTL', key) end
          if kind == 'G' and tonumber(ends) <= now then kind, token = 'T', ZERO end
          was.kind, was.version, was.text, was.token, was.ground = kind, tonumber(version), version, token, ground
          return was
        end
        local was, failure = look(KEYS[1])
        if failure then return failure end

        """

    /// Writes an entry.
    ///
    /// Arguments: `always` or a version of 16 digits, token of 20 digits, time to live in ms, envelope. Gives 1 and the
    /// new version, or 0 and the present one. What follows a tombstone and ends before it leaves the rest of it behind.
    /// What was written on the same ground under a lower token gives way: its writer had lost the lock.
    static let write = CacheScript(
        """
        \(look)
        local ground = ARGV[1]
        if ground ~= 'always' and was.kind ~= 'N' then
          local areBothHeld = was.token ~= ZERO and ARGV[2] ~= ZERO
          if areBothHeld and was.token > ARGV[2] then return {0, was.version} end
          if was.text ~= ground then
            local givesWay = areBothHeld and was.token < ARGV[2] and was.ground <= ground
            if not givesWay then return {0, was.version} end
            ground = was.ground
          end
        end
        local version = math.max(was.version + 1, now)
        if ground == 'always' then ground = string.format('%016.0f', version) end
        local life = tonumber(ARGV[3])
        local head = string.format(' %016.0f ', version) .. ARGV[2] .. ' ' .. ground
        if was.rest > life then
          head = sealed('HFC2G' .. head .. string.format(' %016.0f', now + life * 1000))
          redis.call('SET', KEYS[1], head .. ARGV[4], 'PX', was.rest)
        else
          redis.call('SET', KEYS[1], sealed('HFC2V' .. head) .. ARGV[4], 'PX', life)
        end
        return {1, version}
        """
    )

    /// Puts a tombstone in the place of whatever is there.
    ///
    /// Argument: how long it stays, in ms, if the one there does not stay longer. Gives its version.
    static let remove = CacheScript(
        """
        \(look)
        local version = math.max(was.version + 1, now)
        local text = string.format('%016.0f', version)
        local head = sealed('HFC2T ' .. text .. ' ' .. ZERO .. ' ' .. text)
        redis.call('SET', KEYS[1], head, 'PX', math.max(tonumber(ARGV[1]), was.rest))
        return version
        """
    )

    /// Reads an entry that may have ended.
    ///
    /// Argument: where to cut it off. Gives what is at the key, or a tombstone.
    static let peek = CacheScript(
        """
        \(look)
        if was.kind == 'N' or was.kind == 'F' then return '' end
        if was.kind == 'T' then return sealed('HFC2T ' .. was.text .. ' ' .. ZERO .. ' ' .. was.text) end
        return redis.call('GETRANGE', KEYS[1], 0, ARGV[1])
        """
    )

    /// Marks what is invalid; see ``MarkRecord``.
    ///
    /// Keys: the marks, and for a tag its own. Arguments: `tag`, `prefix` or `all`, how long to keep it in ms, the prefix.
    /// Gives the new mark. A prefix replaces those that start with it; everything replaces all, and takes the place of
    /// a prefix that is one too many. Where the marks were damaged, everything is invalid from now on.
    static let mark = CacheScript(
        """
        \(common)
        local function value(key)
          local reply = redis.pcall('GET', key)
          if foreign(reply) or reply == '' then return 'foreign' end
          if type(reply) == 'table' then return nil, reply end
          return reply or ''
        end
        local scope, keep, prefix = ARGV[1], tonumber(ARGV[2]), ARGV[3]
        local marks, failure = value(KEYS[1])
        if failure then return failure end
        local current, all, kept = 0, '0000000000000000', {}
        local isDamaged = marks ~= ''
        local first, second = string.match(marks, '^HFC1M (\(d16)) (\(d16))\\n')
        if first and tonumber(first) < HIGHEST then
          current, all = tonumber(first), second
          isDamaged = tonumber(all) > current
          local at = 41
          while at <= #marks and not isDamaged do
            local one, ends, length = string.match(marks, '^(\(d16)) (\(d16)) (%d%d%d%d) ', at)
            local text = at + 39
            local next = text + tonumber(length or '0') + 1
            if not one or tonumber(one) > current or string.sub(marks, next - 1, next - 1) ~= '\\n' then
              isDamaged = true
            else
              local isWithin = string.sub(marks, text, next - 2):sub(1, #prefix) == prefix
              if tonumber(ends) > now and not (scope == 'prefix' and isWithin) then
                kept[#kept + 1] = string.sub(marks, at, next - 1)
              end
              at = next
            end
          end
        end
        if scope == 'tag' then
          local tag, refusal = value(KEYS[2])
          if refusal then return refusal end
          local known = tonumber(string.match(tag, '^\(d16)$') or '0')
          if known < HIGHEST then current = math.max(current, known) end
        end
        local mark = math.max(current + 1, now)
        local text = string.format('%016.0f', mark)
        if isDamaged then all, kept = text, {} end
        if prefix == '' or #kept >= \(CacheLimits.maximumPrefixes) then
          if scope == 'prefix' then scope = 'all' end
        end
        if scope == 'all' then
          all, kept = text, {}
        elseif scope == 'prefix' then
          local ends = string.format('%016.0f', now + keep * 1000)
          kept[#kept + 1] = text .. ' ' .. ends .. ' ' .. string.format('%04d', #prefix) .. ' ' .. prefix .. '\\n'
        else
          redis.call('SET', KEYS[2], text, 'PX', math.max(keep, redis.call('PTTL', KEYS[2])))
        end
        marks = 'HFC1M ' .. text .. ' ' .. all .. '\\n' .. table.concat(kept)
        redis.call('SET', KEYS[1], marks, 'PX', math.max(keep, redis.call('PTTL', KEYS[1])))
        return mark
        """
    )
}
