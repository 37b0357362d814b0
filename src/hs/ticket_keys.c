/* Keys of session tickets. Two of them: the one of now and the one before, so that a ticket opens
 * for as long as it says, whenever it was sealed. They are made at random in memory for secrets and
 * never leave it: after a restart, and after credentials were read again, all tickets are waste
 * paper and cost a full handshake, no more.
 *
 * A key's age counts from its first use, so an idle server makes none; wall-clock seconds, as
 * OpenSSL counts the age of tickets. */
#include "hs/ticket_keys.h"

#include <pthread.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "base/mem.h"
#include "hs/wall_clock.h"

enum { NAME_LEN = 16, KEY_LEN = 32 };

struct ticket_key {
    unsigned char name[NAME_LEN], aes[KEY_LEN], mac[KEY_LEN];
    int64_t made; /* 0: there is none */
};

struct smt_ticket_keys {
    pthread_mutex_t lock; /* guards the keys */
    uint32_t lifetime;
    struct ticket_key *key; /* two, in memory for secrets: of now, and before */
};

int smt_ticket_keys_new(uint32_t lifetime_s, struct smt_ticket_keys **out)
{
    struct smt_ticket_keys *keys = smt_mem_alloc(sizeof(*keys));
    if (keys == NULL)
        return SMT_ENOMEM;
    keys->lifetime = lifetime_s;
    keys->key = smt_mem_secret(2 * sizeof(*keys->key));
    if (keys->key == NULL) {
        smt_mem_free(keys);
        return SMT_ENOMEM;
    }
    pthread_mutex_init(&keys->lock, NULL);
    *out = keys;
    return 0;
}

void smt_ticket_keys_free(struct smt_ticket_keys *keys)
{
    if (keys == NULL)
        return;
    smt_mem_secret_free(keys->key, 2 * sizeof(*keys->key));
    pthread_mutex_destroy(&keys->lock);
    smt_mem_free(keys);
}

uint32_t smt_ticket_keys_lifetime(const struct smt_ticket_keys *keys)
{
    return keys->lifetime;
}

/* True when the key has served its time. A clock that was set back makes a key old too. */
static bool is_old(const struct ticket_key *key, int64_t now, uint32_t lifetime)
{
    return now < key->made || now - key->made >= (int64_t)lifetime;
}

static bool key_make(struct ticket_key *key, int64_t now)
{
    if (RAND_bytes(key->name, NAME_LEN) != 1 || RAND_priv_bytes(key->aes, KEY_LEN) != 1 ||
        RAND_priv_bytes(key->mac, KEY_LEN) != 1)
        return false;
    key->made = now;
    return true;
}

static void keys_age(struct smt_ticket_keys *keys, int64_t now)
{
    struct ticket_key *key = keys->key;
    if (key[0].made != 0 && is_old(&key[0], now, keys->lifetime)) {
        key[1] = key[0];
        smt_wipe(&key[0], sizeof(key[0]));
    }
    if (key[1].made != 0 && is_old(&key[1], now, 2 * keys->lifetime))
        smt_wipe(&key[1], sizeof(key[1]));
}

static const struct ticket_key *key_named(const struct smt_ticket_keys *keys,
                                          const unsigned char name[NAME_LEN])
{
    for (unsigned i = 0; i < 2; i++)
        if (keys->key[i].made != 0 && memcmp(keys->key[i].name, name, NAME_LEN) == 0)
            return &keys->key[i];
    return NULL;
}

static bool contexts_set(const struct ticket_key *key, const unsigned char *iv,
                         EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, bool seal)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)key->mac, KEY_LEN),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, params) == 1 &&
           EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->aes, iv, seal ? 1 : 0) == 1;
}

/* OpenSSL's words: 0 = no such key, 1 = sealed, 2 = opened, and another ticket is wanted. */
int smt_ticket_keys_use(struct smt_ticket_keys *keys, unsigned char name[16], unsigned char *iv,
                        EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, bool seal)
{
    int64_t now = smt_wall_clock();
    int result = -1;
    pthread_mutex_lock(&keys->lock);
    keys_age(keys, now);
    struct ticket_key *current = &keys->key[0];
    if (!seal) {
        const struct ticket_key *key = key_named(keys, name);
        result = key == NULL ? 0 : contexts_set(key, iv, cipher, mac, false) ? 2 : -1;
    } else if ((current->made != 0 || key_make(current, now)) &&
               RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) == 1 &&
               contexts_set(current, iv, cipher, mac, true)) {
        memcpy(name, current->name, NAME_LEN);
        result = 1;
    }
    pthread_mutex_unlock(&keys->lock);
    return result;
}
