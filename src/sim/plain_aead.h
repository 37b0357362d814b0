/* The cipher of simulated hosts: AES-128-GCM in name, lengths and nonces, but nothing is encrypted,
 * and the bulk of a message's bytes is not even copied: nobody in a simulation reads them. Records
 * of one piece come over whole; of records gathered from two pieces only the first (the head) and
 * frames in front of the data do. It has no seal_to and open_from: simulated networks take no
 * records in runs of packets. */
#ifndef SMT_SIM_PLAIN_AEAD_H
#define SMT_SIM_PLAIN_AEAD_H

#include "crypto/aead.h"

extern const struct smt_aead smt_sim_aead;

#endif
