#!/bin/bash
# A run that outlives its time limit: sbatch docs/slurm.sh
#
# Three minutes before the end Slurm sends SIGUSR1 to every process of the step. train.py finishes its update, saves and
# ends with 75; the job is queued again and `--resume auto` resumes the run of this config (the first time, when
# there is none, it starts one). Any other code ends the job. One process per GPU, started by srun itself, because
# launchers between srun and Python do not pass the exit code on.
#SBATCH --job-name=maskcls
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append

export CONFIG=configs/exp.yaml
export ACCELERATE_MIXED_PRECISION=bf16
export MASTER_PORT=29500
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR

srun bash -c 'RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS \
    LOCAL_WORLD_SIZE=$SLURM_NTASKS_PER_NODE exec python train.py --config "$CONFIG" --resume auto'
code=$?
[ "$code" -eq 75 ] && scontrol requeue "$SLURM_JOB_ID"
exit "$code"
