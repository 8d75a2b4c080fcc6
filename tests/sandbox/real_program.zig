// A program as one would write it: a map from texts to counts, JSON written and read back, sorting, hashing, big copies;
// all of it over an allocator that grows memory. What it keeps from call to call follows from its arguments.
const std = @import("std");
const gpa = std.heap.wasm_allocator;

const Entry = struct { name: []const u8, count: u32, share: f64, places: []const i32 };

var seen: std.StringHashMap(u32) = .init(gpa);
var kept: std.ArrayList([]u8) = .empty;
var checksum: u64 = 0;

fn chance(seed: u32) std.Random.DefaultPrng {
    return .init(seed);
}

// Words into the map, some of them again and again; every so often some go.
export fn f0(seed: u32) u32 {
    var random = chance(seed);
    for (0..seed % 200 + 10) |_| {
        var room: [24]u8 = undefined;
        const word = std.fmt.bufPrint(&room, "word-{d}", .{random.random().int(u32) % 500}) catch unreachable;
        const found = seen.getOrPut(word) catch return 0;
        if (!found.found_existing) {
            found.key_ptr.* = gpa.dupe(u8, word) catch unreachable;
            found.value_ptr.* = 0;
        }
        found.value_ptr.* += 1;
        if (found.value_ptr.* % 7 == 0) {
            const gone = seen.fetchRemove(word).?;
            gpa.free(gone.key);
        }
    }
    return seen.count();
}

// Records to JSON and back; what is read must be what was written.
export fn f1(seed: u32) u64 {
    var random = chance(seed);
    var arena: std.heap.ArenaAllocator = .init(gpa);
    defer arena.deinit();
    const entries = arena.allocator().alloc(Entry, seed % 20 + 1) catch return 1;
    for (entries, 0..) |*entry, index| {
        const places = arena.allocator().alloc(i32, random.random().int(u8) % 16) catch return 1;
        for (places) |*place| place.* = random.random().int(i32);
        entry.* = .{ .name = "n\"\\\u{e9}", .count = @intCast(index), .share = random.random().float(f64), .places = places };
    }
    const text = std.json.Stringify.valueAlloc(arena.allocator(), entries, .{ .whitespace = .indent_2 }) catch return 2;
    const read = std.json.parseFromSliceLeaky([]Entry, arena.allocator(), text, .{}) catch return 3;
    if (read.len != entries.len or read[0].share != entries[0].share) return 4;
    checksum = std.hash.Wyhash.hash(checksum, text);
    return checksum;
}

fn less(_: void, one: u64, other: u64) bool {
    return one < other;
}

// Sorting, then a digest.
export fn f2(seed: u32) u64 {
    var random = chance(seed);
    const numbers = gpa.alloc(u64, seed % 400) catch return 0;
    defer gpa.free(numbers);
    for (numbers) |*number| number.* = random.random().int(u64);
    std.mem.sort(u64, numbers, {}, less);
    var digest: [32]u8 = undefined;
    std.crypto.hash.sha2.Sha256.hash(std.mem.sliceAsBytes(numbers), &digest, .{});
    checksum +%= std.mem.readInt(u64, digest[0..8], .little);
    return checksum;
}

// Blocks that are kept, copied over one another and let go; the memory grows for some of them.
export fn f3(size: u32) u32 {
    const block = gpa.alloc(u8, size % 40_000) catch return 0;
    @memset(block, @truncate(size));
    if (kept.items.len > 0) {
        const last = kept.items[kept.items.len - 1];
        const length = @min(last.len, block.len);
        @memcpy(block[0..length], last[0..length]);
        if (length > 9) @memmove(block[1 .. length - 2], block[3..length]);
    }
    if (kept.items.len > 3) gpa.free(kept.orderedRemove(0));
    kept.append(gpa, block) catch return 0;
    return @intCast(kept.items.len);
}

// Traps for some arguments, when it has written already.
export fn f4(index: i32) u32 {
    var room: [16]u32 = @splat(0);
    const place: usize = @intCast(index & 31);
    checksum +%= 1;
    seen.put("fixed", @intCast(place)) catch return 0;
    if (place >= room.len) @trap();
    room[place] = 7;
    return room[@intCast(index & 15)];
}
