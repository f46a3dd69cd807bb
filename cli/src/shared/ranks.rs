//! The processes that `mpirun` starts as ranks of one training.

use ganomede::device::Selector;
use ganomede::train::Team;

use super::{CliError, output};

/// What a launcher of ranks sets, and says how many there are.
const SIZES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"];

/// This process among those that were started with it.
pub(crate) struct Ranks {
    pub(crate) team: Team,
    /// Its number among those of this machine.
    local: usize,
    /// Ends the exchange of messages when it is dropped.
    #[cfg(feature = "mpi")]
    _universe: Option<mpi::environment::Universe>,
}

impl Ranks {
    /// Joins those that were started with this process; alone where it was started by itself.
    ///
    /// # Errors
    /// [`CliError`] where it was started as one of several and cannot speak with the others.
    pub(crate) fn join() -> Result<Self, CliError> {
        let size = |name: &&str| std::env::var(name).ok()?.parse::<usize>().ok();
        let started = SIZES.iter().find_map(size).unwrap_or(1);
        let ranks = Self::of(started)?;
        // One of them speaks.
        output::silence(!ranks.team.is_first());
        Ok(ranks)
    }

    #[cfg(not(feature = "mpi"))]
    fn of(started: usize) -> Result<Self, CliError> {
        if started > 1 {
            return Err(CliError::input(format!(
                "started as one of {started} ranks, and this program was built without MPI: build it with \
                 `--features mpi`, or start it by itself"
            )));
        }
        Ok(Self { team: Team::default(), local: 0 })
    }

    #[cfg(feature = "mpi")]
    fn of(started: usize) -> Result<Self, CliError> {
        use mpi::topology::Communicator;
        if started < 2 {
            return Ok(Self { team: Team::default(), local: 0, _universe: None });
        }
        let lost = || CliError::machine("MPI cannot be started; start the ranks with `mpirun`");
        // Messages are sent by the thread that asks for it alone.
        let asked = mpi::Threading::Funneled;
        let (universe, _) = mpi::initialize_with_threading(asked).ok_or_else(lost)?;
        let local = universe.world().split_shared(0).rank() as usize;
        let team = Team::new(std::sync::Arc::new(world::World::new()));
        Ok(Self { team, local, _universe: Some(universe) })
    }

    /// The device of this rank: where the machine has several adapters of the kind that was asked for, each
    /// rank of it takes one of its own.
    pub(crate) fn device(&self, asked: Selector) -> Selector {
        if self.team.count() == 1 {
            return asked;
        }
        let adapters = ganomede::device::gpu::Gpu::adapters();
        let fit: Vec<usize> = match asked {
            Selector::Auto => adapters.iter().filter(|a| !a.software).map(|a| a.index).collect(),
            Selector::Gpu => adapters.iter().map(|a| a.index).collect(),
            _ => vec![],
        };
        match fit.len() {
            0 | 1 => asked,
            count => Selector::GpuIndex(fit[self.local % count]),
        }
    }
}

/// Makes sure that all ranks are ready for what they do together: where one is not, all end, and the first of
/// those says why.
pub(crate) fn together<T>(team: &Team, ready: Result<T, CliError>) -> Result<T, CliError> {
    let fails = team.all(f32::from(u8::from(ready.is_err())))?;
    match (ready, fails.iter().position(|&fails| fails == 1.0)) {
        (Err(error), Some(first)) if first == team.rank() => Err(error),
        (Ok(ready), None) => Ok(ready),
        (_, _) => Err(CliError::of_other_rank()),
    }
}

#[cfg(feature = "mpi")]
mod world {
    use mpi::topology::{Communicator, SimpleCommunicator};
    use mpi::traits::CommunicatorCollectives;

    /// All processes that were started together, through MPI.
    pub(super) struct World {
        rank: usize,
        count: usize,
    }

    impl World {
        pub(super) fn new() -> Self {
            let world = SimpleCommunicator::world();
            Self { rank: world.rank() as usize, count: world.size() as usize }
        }
    }

    impl ganomede::train::Ranks for World {
        fn rank(&self) -> usize {
            self.rank
        }

        fn count(&self) -> usize {
            self.count
        }

        fn gather(&self, mine: &[f32], all: &mut [f32]) -> Result<(), String> {
            SimpleCommunicator::world().all_gather_into(mine, all);
            Ok(())
        }

        fn exchange(&self, mine: &[f32], theirs: &mut [f32]) -> Result<(), String> {
            SimpleCommunicator::world().all_to_all_into(mine, theirs);
            Ok(())
        }
    }
}
