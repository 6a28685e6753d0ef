//! How much memory the KV cache gets. An error now is better than a kill in the middle of an answer, which is what a container's
//! limit does.

use anyhow::{Result, ensure};

use crate::config::SchedulingFlags;
use crate::kernels::BLOCK;
use crate::model::Footprint;

/// What the program needs besides weights, cache and sequences: results between the stages, requests, connections.
const BESIDES: u64 = 64 << 20;

/// Pages of the cache, for sequences of at most `context` tokens of which `sequences` run together, beside those of `warm` tokens that
/// are always kept, when this process may use `limit` bytes.
pub(super) fn pages(
    flags: &SchedulingFlags,
    footprint: Footprint,
    context: usize,
    sequences: usize,
    warm: usize,
    limit: Option<u64>,
) -> Result<usize> {
    let Footprint { weights, page, sequence } = footprint;
    let besides = BESIDES + sequence * sequences as u64;
    let used = weights.saturating_add(besides);
    let (one, kept) = (context.div_ceil(BLOCK) as u64, warm.div_ceil(BLOCK) as u64);
    let (limit, least_pages) = (limit.unwrap_or(u64::MAX), one + kept);
    let least = used.saturating_add(least_pages * page);
    let held = match warm {
        0 => format!("a context of {context}"),
        _ => format!("a context of {context} beside the {warm} of --warm-prompt"),
    };
    ensure!(
        least <= limit,
        "this model takes {:.2} GB of memory ({:.2} for its weights, {:.2} for {held} and {:.2} for {sequences} requests at once), and \
         this process may use {:.2} GB. Raise the limit of the container, or take less: a smaller --ctx-size, or --head q8 or q4",
        gigabytes(least),
        gigabytes(weights),
        gigabytes(least_pages * page),
        gigabytes(besides),
        gigabytes(limit),
    );
    let left = limit - used;
    let pages = if let Some(mebibytes) = flags.cache_ram {
        let bytes = mebibytes << 20;
        ensure!(
            bytes / page >= least_pages,
            "--cache-ram {mebibytes} has room for {} tokens, and {held} needs {} MiB",
            bytes / page * BLOCK as u64,
            (least_pages * page).div_ceil(1 << 20),
        );
        ensure!(
            bytes <= left,
            "--cache-ram {mebibytes} takes {:.2} GB beside the {:.2} GB of weights and {sequences} requests, and this process may use {:.2} GB",
            gigabytes(bytes),
            gigabytes(used),
            gigabytes(limit),
        );
        bytes / page
    } else {
        let half = left / 2;
        (one * sequences as u64 + kept).min(half / page).max(least_pages)
    };
    // Numbers of pages have 32 bits.
    Ok(pages.min(u64::from(u32::MAX)) as usize)
}

fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const FOOTPRINT: Footprint = Footprint { weights: 1_500_000_000, page: 10_000_000, sequence: 4_000_000 };

    /// With a context of 32 pages.
    fn pages_of(arguments: &[&str], limit: Option<u64>) -> Result<usize> {
        pages_beside(0, arguments, limit)
    }

    /// The same, beside so many tokens that are always kept.
    fn pages_beside(warm: usize, arguments: &[&str], limit: Option<u64>) -> Result<usize> {
        let flags = Config::parse([&["x"], arguments].concat()).unwrap().scheduling;
        pages(&flags, FOOTPRINT, 4_096, 8, warm, limit)
    }

    #[test]
    fn the_cache_has_full_contexts_or_half_of_what_is_left_but_always_one_context() {
        for (limit, expected) in
            [(None, 256), (Some(24_000_000_000), 256), (Some(4_000_000_000), 120), (Some(2_000_000_000), 32)]
        {
            assert_eq!(pages_of(&[], limit).unwrap(), expected, "{limit:?}");
        }
        assert_eq!(pages_of(&["--cache-ram", "1000"], None).unwrap(), 104);
    }

    #[test]
    fn what_is_always_kept_stands_beside_a_full_context() {
        for (limit, expected) in [(None, 259), (Some(2_000_000_000), 35)] {
            assert_eq!(pages_beside(300, &[], limit).unwrap(), expected, "{limit:?}");
        }
        assert_eq!(pages_beside(300, &["--cache-ram", "334"], None).unwrap(), 35);
        let error = pages_beside(300, &["--cache-ram", "333"], None).unwrap_err().to_string();
        for part in ["--cache-ram 333", "4352 tokens", "4096", "300 of --warm-prompt", "334 MiB"] {
            assert!(error.contains(part), "{part:?} is not in {error}");
        }
        let error = pages_beside(300, &[], Some(1_840_000_000)).unwrap_err().to_string();
        assert!(error.contains("1.95 GB") && error.contains("300 of --warm-prompt"), "{error}");
    }

    #[test]
    fn what_cannot_fit_is_an_error_that_has_both_numbers() {
        for (arguments, limit, parts) in [
            (&[][..], 1_000_000_000, &["1.92 GB", "0.10 for 8 requests", "1.00 GB", "--ctx-size"][..]),
            (&["--cache-ram", "100"], 8_000_000_000, &["--cache-ram 100", "1280 tokens", "4096", "306 MiB"]),
            (&["--cache-ram", "4000"], 4_000_000_000, &["--cache-ram 4000", "4.19 GB", "1.60 GB", "4.00 GB"]),
        ] {
            let error = pages_of(arguments, Some(limit)).unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{part:?} is not in {error}");
            }
        }
    }
}
