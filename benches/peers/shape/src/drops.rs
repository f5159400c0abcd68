//! Whether the clients themselves lost what the relay had delivered.

use std::{collections::HashSet, fs};

/// Datagrams that the kernel dropped at any UDP socket of this process, whoever opened it: buffers were full because
/// they were not read in time.
pub(crate) fn own_socket_drops() -> u64 {
    let descriptors = fs::read_dir("/proc/self/fd").into_iter().flatten();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let inodes =
        targets.filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()));
    let inodes: HashSet<String> = inodes.collect();
    let tables = ["/proc/net/udp", "/proc/net/udp6"];
    tables.iter().filter_map(|path| fs::read_to_string(path).ok()).map(|table| drops_of(&table, &inodes)).sum()
}

/// Lines of proc(5)'s udp table: the inode is the tenth field, the drops are the last.
fn drops_of(table: &str, inodes: &HashSet<String>) -> u64 {
    let lines = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if inodes.contains(*fields.get(9)?) { fields.last()?.parse::<u64>().ok() } else { None }
    });
    lines.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_those_of_ones_own_sockets() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
                     1: 00000000:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 11 2 0000000000000000 7\n\
                     2: 00000000:1F91 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 12 2 0000000000000000 9\n";
        assert_eq!(drops_of(table, &HashSet::from(["12".to_owned(), "7".to_owned()])), 9);
    }
}
