/*
 * Starts the interpreter that built the handler inside tcmu-runner.
 *
 * build_handler.py defines GLUE_PYTHON as the path of that interpreter (of a virtual
 * environment, or the system's): Python then finds its library and site-packages as if
 * it had been started by that path. The environment of the daemon is not looked at.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <dlfcn.h>

#include "handler_glue.h"

/*
 * tcmu-runner opens handlers with RTLD_LOCAL (main.c:186), which makes libpython local
 * too, and extension modules (which are not linked against it) could not be imported.
 * Opening what is loaded already with RTLD_GLOBAL makes its symbols visible.
 */
__attribute__((constructor)) static void make_libpython_global(void)
{
	Dl_info found;
	void *symbol = NULL;

	*(int (**)(void))&symbol = Py_IsInitialized;
	if (!dladdr(symbol, &found) || !found.dli_fname ||
	    !dlopen(found.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD))
		glue_log(3, "libpython could not be made global; importing modules will fail.");
}

static PyStatus initialize(PyConfig *config)
{
	PyPreConfig preconfig;
	PyStatus status;

	PyPreConfig_InitIsolatedConfig(&preconfig);
	preconfig.utf8_mode = 1; /* a service's locale is C */
	status = Py_PreInitialize(&preconfig);
	if (PyStatus_Exception(status))
		return status;
	status = PyConfig_SetBytesString(config, &config->program_name, GLUE_PYTHON);
	if (PyStatus_Exception(status))
		return status;
	status = PyConfig_SetBytesString(config, &config->executable, GLUE_PYTHON);
	if (PyStatus_Exception(status))
		return status;
	return Py_InitializeFromConfig(config); /* isolated: no signal handlers */
}

/*
 * cffi guards its start with a lock in PyCapsule_Type.tp_version_tag before Python 3.12
 * and waits for ever if that is not 0 (_embedding.h, _cffi_carefully_make_gil).
 */
static void clear_cffi_lock(void)
{
#if PY_VERSION_HEX < 0x030C0000
	PyType_Modified(&PyCapsule_Type);
#endif
}

bool glue_start_interpreter(void)
{
	PyConfig config;
	PyStatus status;

	if (Py_IsInitialized())
		return true; /* by another handler; the init code adds our paths */
	PyConfig_InitIsolatedConfig(&config);
	status = initialize(&config);
	PyConfig_Clear(&config);
	if (PyStatus_Exception(status)) {
		glue_log(3, status.err_msg ? status.err_msg : "Python could not be started.");
		return false;
	}
	clear_cffi_lock();
	PyEval_SaveThread();
	return true;
}
