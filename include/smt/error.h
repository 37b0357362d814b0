/* Error codes of libsmt-verbs: one table for every call, event and tool.
 *
 * Every function that can fail returns 0 or a count on success and one of these (negative) codes
 * otherwise. Bands: -1xx wrong use, -2xx try again, -3xx peer and protocol, -4xx security,
 * -5xx device and system, -9xx internal. A code keeps its number for ever. */
#ifndef SMT_ERROR_H
#define SMT_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, number, short text) */
#define SMT_ERROR_TABLE(X)                                                                         \
    X(SMT_EINVAL, -101, "invalid argument")                                                        \
    X(SMT_EMSGSIZE, -102, "message too large")                                                     \
    X(SMT_ESTATE, -103, "not possible in this state")                                              \
    X(SMT_EUNSUPPORTED, -104, "not supported by this device or build")                             \
    X(SMT_EFORK, -105, "handle belongs to the parent process")                                     \
    X(SMT_ENAME, -106, "host name or address not understood")                                      \
    X(SMT_ECREDENTIALS, -107, "no usable credentials")                                             \
    X(SMT_EFILE, -108, "file cannot be read or is malformed")                                      \
    X(SMT_EAGAIN, -201, "limit reached, try again after WRITABLE")                                 \
    X(SMT_EBUSY, -202, "work arrived, poll again before sleeping")                                 \
    X(SMT_ENOMEM, -203, "out of memory or memory limit reached")                                   \
    X(SMT_ETIMEDOUT, -301, "deadline passed")                                                      \
    X(SMT_EUNREACHABLE, -302, "peer does not answer")                                              \
    X(SMT_EMAYBE, -303, "session lost, the call may have been executed")                           \
    X(SMT_ECANCELED, -304, "cancelled")                                                            \
    X(SMT_EREFUSED, -305, "refused by the peer")                                                   \
    X(SMT_ECLOSED, -306, "session closed")                                                         \
    X(SMT_EVERSION, -307, "no protocol version in common")                                         \
    X(SMT_EPROTO, -308, "protocol violation by the peer")                                          \
    X(SMT_EMALFORMED, -309, "malformed packet or message")                                         \
    X(SMT_EAUTH, -401, "authentication failed")                                                    \
    X(SMT_ECERT, -402, "certificate not accepted")                                                 \
    X(SMT_ENAMEMISMATCH, -403, "certificate is for another name")                                  \
    X(SMT_EEXPIRED, -404, "certificate expired or not yet valid")                                  \
    X(SMT_EPSK, -405, "pre-shared key not accepted")                                               \
    X(SMT_EPIN, -406, "public key does not match the pin")                                         \
    X(SMT_EKEYLIMIT, -407, "key used up")                                                          \
    X(SMT_ECRYPTO, -408, "cryptographic library failed")                                           \
    X(SMT_EDEVICE, -501, "device error")                                                           \
    X(SMT_ENODEV, -502, "no such device")                                                          \
    X(SMT_EPERM, -503, "permission denied")                                                        \
    X(SMT_EADDRINUSE, -504, "port already in use")                                                 \
    X(SMT_ESYSTEM, -505, "system call failed")                                                     \
    X(SMT_EMTU, -506, "path MTU too small")                                                        \
    X(SMT_EINTERNAL, -901, "internal error")

enum smt_error {
#define SMT_ERROR_ENUM(name, number, text) name = number,
    SMT_ERROR_TABLE(SMT_ERROR_ENUM)
#undef SMT_ERROR_ENUM
};

#ifndef SMT_API
#if defined(__GNUC__)
#define SMT_API __attribute__((visibility("default")))
#else
#define SMT_API
#endif
#endif

/* The symbol, "SMT_EINVAL"; "SMT_OK" for 0 and above, "SMT_E?" for an unknown number. Static. */
SMT_API const char *smt_error_name(int code);

/* One lower-case phrase that says what it means. Static, never NULL. */
SMT_API const char *smt_strerror(int code);

#ifdef __cplusplus
}
#endif
#endif
