// thread.wgsl: the number of a thread in a grid that is folded into two dimensions.

/// Number of the calling thread among all threads of workgroups of 64.
fn thread(group: vec3u, groups: vec3u, lane: u32) -> u32 {
    return (group.x + group.y * groups.x) * 64u + lane;
}
