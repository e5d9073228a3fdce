// A Python module: native_each(function) calls the function ten times.
#include <Python.h>

static PyObject *native_each(PyObject *self, PyObject *function)
{
	(void)self;
	for (int i = 0; i < 10; i++) {
		PyObject *result = PyObject_CallFunctionObjArgs(function, NULL);
		if (!result)
			return NULL;
		Py_DECREF(result);
	}
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"native_each", native_each, METH_O, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "native", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit_native(void)
{
	return PyModule_Create(&module);
}
