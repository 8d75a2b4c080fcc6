// Slices, vectors, optionals and wide integers, as this language's compiler writes them.
var words: [512]u32 = @splat(7);
var lanes: [8]@Vector(4, u32) = @splat(@splat(1));
var wide: u128 = 1;

export fn f0(seed: u32) u32 {
    for (&words, 0..) |*word, index| word.* = word.* *% seed +% @as(u32, @truncate(index));
    return words[seed % words.len];
}

export fn f1(by: u32) u32 {
    for (&lanes) |*lane| lane.* = lane.* *% @as(@Vector(4, u32), @splat(by | 1));
    return @reduce(.Xor, lanes[by % lanes.len]);
}

export fn f2(count: u32) u32 {
    const part = words[0 .. count % 300];
    @memcpy(words[200..][0..part.len], part[0..part.len]);
    return words[250];
}

export fn f3(by: u32) u32 {
    wide = wide *% 0x1_0000_0000_0000_001b +% by;
    @memset(words[by % 256 ..][0..200], @truncate(wide >> 64));
    return @truncate(wide);
}

fn deep(left: u32, before: ?*const [4]u32) u32 {
    const mine = [4]u32{ left, if (before) |found| found[0] else 9, 2, 3 };
    if (left == 0) return mine[1];
    words[left] +%= mine[left % 4];
    return deep(left - 1, &mine) +% 1;
}

export fn f4(left: u32) u32 {
    return deep(left % 40, null);
}
