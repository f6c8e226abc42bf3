//! The sums that the documents publish are those that the code computes.
//!
//! They stand in one place, `coalescent-core/docs/limits.md`. When a bound changes, its row there
//! and the sum change, and what fails here says what to write.

use std::fs;
use std::path::Path;

use coalescent::Config;

const MIB: f64 = 1024.0 * 1024.0;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of the tables whose last column is a number of bytes, up to each table's sum: all but
/// the first and the last cell are of no matter.
struct Table {
    rows: Vec<(String, f64)>,
    sum: String,
}

/// Reads `256 KiB + 2 MiB` as bytes.
fn bytes(cell: &str) -> Option<f64> {
    cell.split('+')
        .map(|part| {
            let mut words = part.split_whitespace();
            let number: f64 = words.next()?.parse().ok()?;
            match words.next() {
                Some("KiB") => Some(number * 1024.0),
                Some("MiB") => Some(number * MIB),
                None if number == 0.0 => Some(0.0),
                _ => None,
            }
        })
        .sum()
}

/// The tables of a document that end with a sum.
fn tables(text: &str) -> Vec<Table> {
    let mut tables = Vec::new();
    let mut rows = Vec::new();
    for line in text.lines() {
        let Some(line) = line
            .strip_prefix('|')
            .and_then(|line| line.strip_suffix('|'))
        else {
            rows.clear();
            continue;
        };
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [first, .., last] = cells[..] else {
            continue;
        };
        if first.starts_with("**sum**") {
            let rows = std::mem::take(&mut rows);
            let sum = last.to_owned();
            tables.push(Table { rows, sum });
        } else if let Some(bytes) = bytes(last) {
            rows.push((first.to_owned(), bytes));
        }
    }
    tables
}

/// Checks a sum as it is written, and that the rows make it.
fn check(table: &Table, what: &str, computed: usize, written: &str, more: f64) {
    let path = "coalescent-core/docs/limits.md";
    assert_eq!(
        table.sum, written,
        "\n\n{what} is {computed} bytes. In {path}, in the row of its sum, write:\n\n    {written}\n"
    );
    let rows: f64 = table.rows.iter().map(|(_, bytes)| bytes).sum::<f64>() + more;
    let computed = computed as f64;
    // Rows are rounded as they are written.
    assert!(
        (rows - computed).abs() < 0.1 * MIB,
        "\n\nThe rows of {path} that make {what} come to {:.2} MiB, and the code to {:.2} MiB: a row lacks {:.2} MiB, or is too \
         many.\nThe rows: {:#?}\n",
        rows / MIB,
        computed / MIB,
        (computed - rows) / MIB,
        table.rows,
    );
}

#[test]
fn the_published_memory_is_what_the_code_computes() {
    let config = Config::default();
    let limits = read("coalescent-core/docs/limits.md");
    let tables = tables(&limits);
    let [peer, node] = &tables[..] else {
        panic!("limits.md has {} tables with a sum, not 2", tables.len());
    };
    let bytes = config.peer_bytes();
    let written = format!("{:.1} MiB", bytes as f64 / MIB);
    check(peer, "Config::peer_bytes()", bytes, &written, 0.0);

    let peers = config.max_inbound + config.max_peers;
    let all = peers as f64 * bytes as f64;
    let bytes = config.node_bytes();
    let written = format!("{:.0} MiB", bytes as f64 / MIB);
    check(node, "Config::node_bytes()", bytes, &written, all);
    let row = format!(
        "**sum** with {} inbound and {} outbound peers",
        config.max_inbound, config.max_peers
    );
    assert!(limits.contains(&row), "limits.md: write {row:?}");

    for (what, bytes) in [
        ("Config::contact_bytes", config.contact_bytes()),
        ("Config::contacts_bytes", config.contacts_bytes()),
    ] {
        let sum = format!("[`{what}`], {:.0} MiB", bytes as f64 / MIB);
        assert!(limits.contains(&sum), "limits.md: write {sum:?}");
    }
}

#[test]
fn other_documents_repeat_no_sums() {
    for path in ["SECURITY.md", "README.md"] {
        let text = read(path);
        for bytes in [
            Config::default().peer_bytes(),
            Config::default().node_bytes(),
        ] {
            let mib = bytes as f64 / MIB;
            for sum in [format!("{mib:.1} MiB"), format!("{mib:.0} MiB")] {
                assert!(
                    !text.contains(&sum),
                    "{path} repeats {sum:?}, which will not stay true: point to limits.md"
                );
            }
        }
    }
    let security = read("SECURITY.md");
    let link = "[limits](coalescent-core/docs/limits.md)";
    let paragraph = security.split("\n\n").find(|part| part.contains(link));
    let paragraph = paragraph.unwrap_or_else(|| panic!("SECURITY.md: write {link}"));
    assert!(
        !paragraph.contains("iB"),
        "SECURITY.md has sums of its own: leave them to limits.md"
    );
}
