//! Whether the dynamic linker will load our library into an ELF binary, and
//! whether the binary will then call it.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::read::ReadCache;
use object::{Endianness, FileKind};

use super::ExecutableError;

/// Why a binary cannot run under Flexcast, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// Neither a script nor ELF, or ELF that is no program.
    #[error("no program that this kernel runs; name the program itself")]
    NoProgram,
    /// No dynamic linker.
    #[error(
        "statically linked, so nothing can be preloaded into it; use a dynamically linked \
         build, or carry its stream by `flexcast send` and `flexcast recv`"
    )]
    Static,
    /// The Go runtime.
    #[error(
        "a Go program, which makes system calls past the C library, so the preloaded library \
         would see none; carry its stream by `flexcast send` and `flexcast recv`"
    )]
    Go,
    /// set-user-id or set-group-id.
    #[error(
        "set-user-id or set-group-id, for which the dynamic linker ignores LD_PRELOAD; \
         run a copy without that bit (cp does not keep it), as the user it needs"
    )]
    SetId,
    /// File capabilities.
    #[error(
        "has file capabilities, for which the dynamic linker ignores LD_PRELOAD; \
         run a copy without them (cp does not keep them), as a user who has them"
    )]
    Capabilities,
    /// Another processor.
    #[error("built for another architecture ({0}); use a build for this one ({ARCHITECTURE})")]
    Architecture(String),
    /// Another C library.
    #[error("linked to another C library than glibc (by {0}); use a build for glibc")]
    Libc(String),
}

const ARCHITECTURE: &str = std::env::consts::ARCH;

#[cfg(target_arch = "x86_64")]
const OURS: (u16, &str) = (elf::EM_X86_64.0, "ld-linux-x86-64.so.2");
#[cfg(target_arch = "aarch64")]
const OURS: (u16, &str) = (elf::EM_AARCH64.0, "ld-linux-aarch64.so.1");

/// Checks a file that is no script.
pub(super) fn check(path: &Path) -> Result<(), ExecutableError> {
    let unreadable = |error| ExecutableError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    let unfit = judge(&file)
        .or_else(|| (mode & 0o6000 != 0).then_some(Unfit::SetId))
        .or_else(|| has_capabilities(path).then_some(Unfit::Capabilities));
    match unfit {
        Some(unfit) => Err(ExecutableError::Unfit {
            path: path.to_owned(),
            unfit,
        }),
        None => Ok(()),
    }
}

/// Whether the file has an attribute with capabilities (capabilities(7)).
fn has_capabilities(path: &Path) -> bool {
    // 24 bytes in its third version; a longer one (ERANGE) is there, too.
    let mut value = [0_u8; 64];
    match rustix::fs::getxattr(path, "security.capability", &mut value[..]) {
        Ok(length) => length > 0,
        Err(error) => error == rustix::io::Errno::RANGE,
    }
}

/// What the file's contents say against it.
fn judge(file: &File) -> Option<Unfit> {
    let data = ReadCache::new(file);
    match FileKind::parse(&data) {
        Ok(FileKind::Elf64) => {
            judge_elf::<elf::FileHeader64<Endianness>>(&data).unwrap_or(Some(Unfit::NoProgram))
        }
        Ok(FileKind::Elf32) => {
            Some(foreign::<elf::FileHeader32<Endianness>>(&data).unwrap_or(Unfit::NoProgram))
        }
        _ => Some(Unfit::NoProgram),
    }
}

fn foreign<Elf: FileHeader<Endian = Endianness>>(
    data: &ReadCache<&File>,
) -> object::read::Result<Unfit> {
    let header = Elf::parse(data)?;
    let machine = header.e_machine(header.endian()?);
    Ok(Unfit::Architecture(name_of(machine.0, false)))
}

fn judge_elf<Elf: FileHeader<Endian = Endianness>>(
    data: &ReadCache<&File>,
) -> object::read::Result<Option<Unfit>> {
    let header = Elf::parse(data)?;
    let endian = header.endian()?;
    let machine = header.e_machine(endian).0;
    if machine != OURS.0 {
        return Ok(Some(Unfit::Architecture(name_of(machine, true))));
    }
    let kind = header.e_type(endian);
    if kind != elf::ET_EXEC && kind != elf::ET_DYN {
        return Ok(Some(Unfit::NoProgram));
    }
    if is_go(header, endian, data)? {
        return Ok(Some(Unfit::Go));
    }
    for segment in header.program_headers(endian, data)? {
        if let Some(linker) = segment.interpreter(endian, data)? {
            let linker = String::from_utf8_lossy(linker).into_owned();
            let ours = linker.rsplit('/').next() == Some(OURS.1);
            return Ok((!ours).then_some(Unfit::Libc(linker)));
        }
    }
    Ok(Some(Unfit::Static))
}

/// By its sections, or, where those are stripped, by the Go linker's note.
fn is_go<Elf: FileHeader<Endian = Endianness>>(
    header: &Elf,
    endian: Endianness,
    data: &ReadCache<&File>,
) -> object::read::Result<bool> {
    let sections = header.sections(endian, data)?;
    for section in sections.iter() {
        let name = sections.section_name(endian, section)?;
        if matches!(name, b".note.go.buildid" | b".gopclntab") && section.sh_size(endian).into() > 0
        {
            return Ok(true);
        }
    }
    for segment in header.program_headers(endian, data)? {
        let Some(mut notes) = segment.notes(endian, data)? else {
            continue;
        };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == b"Go" {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A machine's usual name; `wide` for 64-bit files.
fn name_of(machine: u16, wide: bool) -> String {
    let known = [
        (elf::EM_386.0, "i386"),
        (elf::EM_ARM.0, "arm"),
        (elf::EM_X86_64.0, if wide { "x86_64" } else { "x32" }),
        (elf::EM_AARCH64.0, "aarch64"),
        (elf::EM_RISCV.0, "riscv"),
        (elf::EM_PPC64.0, "ppc64"),
        (elf::EM_S390.0, "s390"),
    ];
    match known.into_iter().find(|&(number, _)| number == machine) {
        Some((_, name)) => name.to_owned(),
        None => format!("ELF machine {machine}"),
    }
}
