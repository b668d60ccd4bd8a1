//! Writes the seeds below `fuzz/corpus/`, each as `seed-<name>`; what fuzzing found stays.

#![expect(clippy::disallowed_methods, reason = "the corpus is files of the repository")]

use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, name, bytes) in sheaf_fuzz::seeds::all() {
        let dir = corpus.join(target);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join(format!("seed-{name}")), bytes)?;
    }
    Ok(())
}
