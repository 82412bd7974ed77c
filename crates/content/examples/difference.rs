//! What patches save: `difference OLD NEW` prints, of two files, the bytes that go over the network when somebody who has OLD gets NEW.
//! Where NEW is a number, it is OLD with 1 % changed in so many places.
//!
//! | column | what |
//! |---|---|
//! | mean | of the parts of a signature, in bytes; `whole` is without patches |
//! | down | bytes of the signatures |
//! | up | bytes of the parcels |
//! | all | both |
//! | s | to cut and pack all that is sent, one thread |

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use anyhow::Context as _;
use content::{Chunk, ChunkId, Cutter, Fineness, ParcelBuilder, Signature, Sources};

/// zstd's level, that of packs.
const LEVEL: i32 = 3;

fn cut(bytes: &[u8]) -> anyhow::Result<BTreeMap<ChunkId, Chunk>> {
    Cutter::new(bytes, bytes.len() as u64).map(|chunk| Ok(chunk.map(|chunk| (chunk.id, chunk))?)).collect()
}

/// Changes 1 % of the bytes: noise in so many places, equally far from each other.
fn scatter(old: &[u8], places: usize) -> Vec<u8> {
    let mut new = old.to_vec();
    let length = old.len() / 100 / places.max(1);
    let mut noise = blake3::Hasher::new().finalize_xof();
    for stretch in new.chunks_exact_mut(old.len() / places.max(1)) {
        let at = stretch.len() / 3;
        noise.fill(&mut stretch[at..at + length]);
    }
    new
}

/// Bytes of all parcels.
fn pack(chunks: &[&Chunk], sources: &Sources) -> anyhow::Result<usize> {
    let (mut builder, mut bytes) = (ParcelBuilder::new(LEVEL)?, 0);
    for chunk in chunks {
        builder.add(chunk, sources);
        if builder.is_full() {
            bytes += builder.finish().len();
        }
    }
    Ok(bytes + builder.finish().len())
}

#[expect(clippy::print_stdout, reason = "it prints a table")]
fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [old, new] = &arguments[..] else { anyhow::bail!("usage: difference OLD NEW|PLACES") };
    let old = fs::read(old).with_context(|| old.clone())?;
    let new = match new.parse() {
        Ok(places) => scatter(&old, places),
        Err(_no_number) => fs::read(new).with_context(|| new.clone())?,
    };
    let (old, new) = (cut(&old)?, cut(&new)?);
    let sent: Vec<&Chunk> = new.values().filter(|chunk| !old.contains_key(&chunk.id)).collect();
    let base: Vec<&Chunk> = old.values().filter(|chunk| !new.contains_key(&chunk.id)).collect();
    println!("{} of {} chunks are new; {} old ones are not used any more", sent.len(), new.len(), base.len());
    println!("{:>6} {:>11} {:>11} {:>11} {:>6}", "mean", "down", "up", "all", "s");
    for fineness in [None].into_iter().chain(Fineness::ALL.map(Some)) {
        let signed = base.iter().filter_map(|chunk| Some((chunk.id, Signature::of(&chunk.bytes, fineness?))));
        let signed: Vec<_> = signed.collect();
        let down: usize = signed.iter().map(|(_, signature)| 32 + signature.encode().len()).sum();
        let begun = Instant::now();
        let up = pack(&sent, &Sources::new(signed))?;
        let mean = fineness.map_or_else(|| "whole".into(), |fineness| fineness.mean_bytes().to_string());
        println!("{mean:>6} {down:>11} {up:>11} {:>11} {:>6.2}", down + up, begun.elapsed().as_secs_f64());
    }
    Ok(())
}
