/* What the examples of docs/c.md take of FatFs. */
typedef struct {
    int unused;
} FIL;
typedef unsigned UINT;
typedef enum { FR_OK = 0, FR_DISK_ERR } FRESULT;
#define FA_READ 1
FRESULT f_open(FIL *file, const char *path, unsigned char mode);
FRESULT f_read(FIL *file, void *dst, UINT n, UINT *got);
FRESULT f_rewind(FIL *file); /* a macro of FatFs */
FRESULT f_close(FIL *file);
