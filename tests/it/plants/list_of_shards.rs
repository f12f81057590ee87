//! The plants in the scripts that move ids from shard to shard, and in those that look for them.

use super::list::{Plant, SeenBy, plant, seen_by};

pub(super) const PLANTS_OF_SHARDS: &[Plant] = &[
    seen_by(
        SeenBy::Shards,
        plant("depart", "what is leased moves", "holders[i] or due and due <= soon", "due and due <= soon"),
    ),
    seen_by(
        SeenBy::Shards,
        plant("depart", "what is due soon moves", "holders[i] or due and due <= soon", "holders[i]"),
    ),
    seen_by(SeenBy::Shards, plant("depart", "payloads stay behind", "texts[id] or false", "false")),
    seen_by(
        SeenBy::Shards,
        plant(
            "depart",
            "records stay behind",
            "texts[id] or false, pasts[i] }",
            "texts[id] or false, false }",
        ),
    ),
    seen_by(SeenBy::Shards, plant("depart", "the dead rise", "{ due and 's' or 'd',", "{ 's',")),
    seen_by(
        SeenBy::Shards,
        plant(
            "depart",
            "what leaves is not kept",
            "  call('HSET', moving, '\\0batch', number .. ' ' .. ARGV[3] .. ' ' .. (state[3] or 0), unpack(entries))\n",
            "",
        ),
    ),
    seen_by(
        SeenBy::Shards,
        plant("arrive", "tokens begin anew in each shard", "  call('HSET', meta, 'token', ARGV[3])\n", ""),
    ),
    seen_by(
        SeenBy::Shards,
        plant(
            "arrive",
            "what is there already is not asked for its number",
            "call('HSET', meta, arrived, ARGV[2])",
            "call('HSET', meta, arrived, '9e15')",
        ),
    ),
    seen_by(
        SeenBy::Shards,
        plant("find", "what is leased is not found", "{ scheduled, leased, dead }", "{ scheduled, dead }"),
    ),
    seen_by(
        SeenBy::Shards,
        plant("find", "what is scheduled is not found", "{ scheduled, leased, dead }", "{ leased, dead }"),
    ),
    seen_by(
        SeenBy::Shards,
        plant(
            "schedule",
            "whoever goes by other shards is not refused",
            "if is_fenced == '@' and",
            "if false and",
        ),
    ),
    seen_by(
        SeenBy::Deaths,
        plant(
            "depart",
            "ids go before they are kept",
            "  call('HSET', moving, '\\0batch', number .. ' ' .. ARGV[3] .. ' ' .. (state[3] or 0), unpack(entries))\n  call('ZREM', scheduled, unpack(leaving))\n",
            "  call('ZREM', scheduled, unpack(leaving))\n  call('HSET', moving, '\\0batch', number .. ' ' .. ARGV[3] .. ' ' .. (state[3] or 0), unpack(entries))\n",
        ),
    ),
    seen_by(
        SeenBy::Deaths,
        plant(
            "arrive",
            "a batch has arrived before its ids have",
            "for i = 4, #ARGV, 2 do\n",
            "call('HSET', meta, arrived, ARGV[2])\nfor i = 4, #ARGV, 2 do\n",
        ),
    ),
];
