#!/bin/bash
# Four launchers of one sweep under Slurm: an array of independent jobs that share the ledger and the folder of the runs.
#
#     sbatch docs/slurm.sh
#
# Each claims free trials until none is left. A job that is preempted (SIGTERM, then 60 seconds) writes a checkpoint and
# releases its trial; the trial of one that dies is resumed by another, a minute after its last heartbeat. So the same
# command, submitted again or requeued, resumes the sweep. All nodes must share the file system of the folder.
#
#SBATCH --job-name=sweep
#SBATCH --array=0-3
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@60
set -euo pipefail

# PostgreSQL (pip install 'jaxcv-research[postgres]'), or a journal in the shared folder, for which nothing is needed.
# Not SQLite: network file systems do not lock it well.
storage="${STORAGE:-journal:$HOME/sweeps/lenet.journal}"

srun python launch.py experiments/lenet.py \
    "lr=log(1e-4,1e-1)" "weight_decay=log(1e-6,1e-2)" seed=0,1 --search tpe --trials 200 --prune asha \
    --storage "$storage" --workdir "$HOME/sweeps"
